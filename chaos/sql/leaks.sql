-- For how long, at most, an execution that has ended holds a slot of a key called like this.
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - e.finished_at)), 0)::float8
FROM slot s JOIN execution e ON e.id = s.execution_id JOIN queue q ON q.id = s.key_id
WHERE is_terminal(e.status) AND q.name LIKE $1
