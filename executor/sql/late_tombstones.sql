-- Cancels that crossed with their request: the row stands now.
SELECT t.execution_id, t.reason
FROM cancel_tombstone t CROSS JOIN LATERAL (SELECT 1 FROM execution WHERE id = t.execution_id OFFSET 0) e LIMIT 500
