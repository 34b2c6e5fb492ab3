-- What fell due, oldest first. Read without locks: whoever moves a row first wins, and the second finds nothing.
-- What is paused waits with its timers.
SELECT t.execution_id, t.kind FROM timer t
WHERE t.due <= now()
  AND NOT EXISTS (SELECT 1 FROM execution e WHERE e.id = t.execution_id AND e.paused_at IS NOT NULL)
ORDER BY t.due LIMIT $1
