-- Live workers that surely run executions of an action which wait to write into a table, and how many they run; the one with
-- the most first. Whoever does not wait may have written already and be about to end.
WITH held AS (
    SELECT f.worker_id, count(*)::int AS held
    FROM in_flight f JOIN worker w ON w.id = f.worker_id JOIN execution e ON e.id = f.execution_id
    WHERE w.ended_at IS NULL AND e.status = 'running' AND e.action = $1
    GROUP BY f.worker_id
)
SELECT worker_id, held FROM held
WHERE held > (SELECT sum(held) FROM held) - (SELECT count(*) FROM pg_locks WHERE relation = $2::regclass AND NOT granted)
ORDER BY held DESC, worker_id
