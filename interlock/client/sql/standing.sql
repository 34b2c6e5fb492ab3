-- Where these executions stand.
SELECT id, status::text AS status FROM execution WHERE id = ANY($1)
