-- Cancels that crossed with their request: the row stands now.
SELECT t.execution_id, t.reason FROM cancel_tombstone t JOIN execution e ON e.id BETWEEN t.execution_id AND t.execution_id LIMIT 500
