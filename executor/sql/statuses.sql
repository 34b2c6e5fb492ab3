-- Where these executions stand.
SELECT id, kind, status::text AS status, attempt, epoch FROM execution WHERE id = ANY($1)
