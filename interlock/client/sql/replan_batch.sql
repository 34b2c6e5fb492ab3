SELECT made, gone FROM replan_batch($1, $2, $3, $4::text[]::status[], $5, $6, $7, $8, $9, $10, $11, $12)
