-- Slots whose execution ended and whose completion nobody handled.
SELECT DISTINCT s.execution_id FROM slot s JOIN execution e ON e.id BETWEEN s.execution_id AND s.execution_id
WHERE is_terminal(e.status) AND e.finished_at < now() - interval '2 seconds' LIMIT 500
