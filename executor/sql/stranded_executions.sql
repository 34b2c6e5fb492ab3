-- Dispatched and not started: within the action's start deadline (60 s unless it says otherwise), although the pool has
-- free places, or no live worker at all; in a paused pool at once.
WITH late AS MATERIALIZED (
    SELECT f.execution_id, f.attempt, f.pool
    FROM in_flight f
    CROSS JOIN LATERAL (SELECT * FROM execution WHERE id = f.execution_id OFFSET 0) e
    LEFT JOIN action a ON a.name = e.action AND a.version = e.action_version
    WHERE f.worker_id IS NULL
      AND f.since < now() - interval '1 second'
          * CASE WHEN a.definition -> 'timeout' ? 'start' THEN (a.definition #>> '{timeout,start}')::float8 ELSE 60 END
), pool AS MATERIALIZED (
    SELECT pool FROM (SELECT DISTINCT pool FROM late) p WHERE live_workers(pool) = 0 OR free_places(pool) > 0
)
SELECT execution_id, attempt FROM late WHERE pool IN (SELECT pool FROM pool)
UNION
SELECT f.execution_id, f.attempt FROM queue q JOIN in_flight f ON f.pool = q.name
WHERE q.scope = 'pool' AND q.paused AND f.worker_id IS NULL
ORDER BY execution_id LIMIT 500
