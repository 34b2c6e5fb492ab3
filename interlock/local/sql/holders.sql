-- Live workers that run executions of an action, and how many; the one with the most first.
SELECT f.worker_id, count(*)::int AS held
FROM in_flight f JOIN worker w ON w.id = f.worker_id JOIN execution e ON e.id = f.execution_id
WHERE w.ended_at IS NULL AND e.status = 'running' AND e.action = $1
GROUP BY f.worker_id ORDER BY held DESC, f.worker_id
