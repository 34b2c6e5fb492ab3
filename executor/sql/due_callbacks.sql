-- What happened to these batches (null: to any, at most $2) and has started no action yet, with how they stand.
SELECT c.execution_id AS id, c.epoch, c.event, e.action AS name, e.status::text AS status, e.params::text AS params, e.priority,
       b.definition::text AS definition, b.total, b.completed, b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned,
       b.skipped
FROM batch_callback c CROSS JOIN LATERAL (SELECT * FROM batch WHERE execution_id = c.execution_id OFFSET 0) b
CROSS JOIN LATERAL (SELECT * FROM execution WHERE id = c.execution_id OFFSET 0) e
WHERE c.requested_at IS NULL AND ($1::uuid[] IS NULL OR c.execution_id = ANY($1))
ORDER BY c.execution_id, c.event LIMIT $2
