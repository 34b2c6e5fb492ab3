-- Dispatched and not started within the action's start deadline (60 s unless it says otherwise), although the pool has
-- free places, or no live worker at all.
SELECT f.execution_id, f.attempt
FROM in_flight f JOIN execution e ON e.id = f.execution_id JOIN action a ON a.name = e.action AND a.version = e.action_version
WHERE f.worker_id IS NULL
  AND f.since < now() - interval '1 second'
      * CASE WHEN a.definition -> 'timeout' ? 'start' THEN (a.definition #>> '{timeout,start}')::float8 ELSE 60 END
  AND (live_workers(f.pool) = 0 OR free_places(f.pool) > 0)
ORDER BY f.execution_id LIMIT 500
