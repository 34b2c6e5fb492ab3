-- Partitions of an open batch, from whoever adds them.
SELECT added, more FROM add_partitions($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
