-- Slots whose execution ended and whose completion nobody handled.
SELECT DISTINCT s.execution_id FROM slot s
CROSS JOIN LATERAL (SELECT * FROM execution WHERE id = s.execution_id OFFSET 0) e
WHERE is_terminal(e.status) AND e.finished_at < now() - interval '2 seconds' LIMIT 500
