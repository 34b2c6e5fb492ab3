-- The next step of a planning that is only looked at, by the attempt that holds its fence.
SELECT preview_chunk($1, $2, $3, $4, $5, $6, $7, $8, $9)
