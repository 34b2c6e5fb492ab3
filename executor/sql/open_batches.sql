-- Batches that are open and in which nothing happened for two seconds: a message about the last thing may be lost.
SELECT b.execution_id FROM batch b
CROSS JOIN LATERAL (SELECT * FROM execution WHERE id = b.execution_id OFFSET 0) e
WHERE b.ended_at IS NULL AND b.execution_id > $1
  AND greatest(b.progressed_at, b.planned_at, e.started_at) < now() - interval '2 seconds'
ORDER BY b.execution_id LIMIT $2
