-- Dispatched long ago to a pool that no live worker serves any more.
SELECT f.execution_id, f.attempt FROM in_flight f
WHERE f.worker_id IS NULL AND f.since < now() - $1 * interval '1 second' AND live_workers(f.pool) = 0
ORDER BY f.execution_id LIMIT 500
