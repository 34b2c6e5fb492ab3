-- What fell due, oldest first. Read without locks: whoever moves a row first wins, and the second finds nothing.
SELECT t.execution_id, t.kind FROM timer t WHERE t.due <= now() ORDER BY t.due LIMIT $1
