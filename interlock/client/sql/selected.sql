-- Executions of a selection behind an id, in the order of ids: a cursor, so that any number is cancelled in chunks. A null
-- filter lets everything pass.
SELECT id FROM execution
WHERE status = ANY($1::text[]::status[]) AND ($2::text IS NULL OR action = $2) AND ($3::text IS NULL OR tags ? $3)
  AND ($4::text IS NULL OR pool = $4) AND requested_at <= $5 AND id > $6
ORDER BY id LIMIT $7
