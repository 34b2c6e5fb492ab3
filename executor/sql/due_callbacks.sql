-- What happened to these batches (null: to any, at most $2) and has started no action yet, with how they stand.
SELECT c.execution_id AS id, c.epoch, c.event, e.action AS name, e.status::text AS status, e.params::text AS params, e.priority,
       b.definition::text AS definition, b.total, b.completed, b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned,
       b.skipped
FROM batch_callback c JOIN batch b ON b.execution_id BETWEEN c.execution_id AND c.execution_id
JOIN execution e ON e.id BETWEEN c.execution_id AND c.execution_id
WHERE c.requested_at IS NULL AND ($1::uuid[] IS NULL OR c.execution_id = ANY($1))
ORDER BY c.execution_id, c.event LIMIT $2
