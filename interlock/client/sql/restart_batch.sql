SELECT chosen FROM restart_batch($1, $2, $3::text[]::status[], $4, $5, $6, $7, $8, $9, $10, $11)
