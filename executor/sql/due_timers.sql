-- What fell due, oldest first. Read without locks: whoever moves a row first wins, and the second finds nothing.
-- What is paused waits with its timers.
SELECT t.execution_id, t.kind, e.attempt FROM timer t JOIN execution e ON e.id BETWEEN t.execution_id AND t.execution_id
WHERE t.due <= now() AND e.paused_at IS NULL
ORDER BY t.due LIMIT $1
