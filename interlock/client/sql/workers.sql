-- Incarnations of workers that have not ended, by pool and age. What of the lease is left is told by the database's clock,
-- which judges it; a negative number is an incarnation that is lost.
SELECT w.id, w.pool, w.host, w.pid, w.containment, w.capacity, coalesce(f.running, 0)::int AS running,
       extract(epoch FROM w.lease_expires_at - now())::float8 AS lease_left, w.draining, w.started_at
FROM worker w
LEFT JOIN (SELECT worker_id, count(*) AS running FROM in_flight WHERE worker_id IS NOT NULL GROUP BY worker_id) f
    ON f.worker_id = w.id
WHERE w.ended_at IS NULL
ORDER BY w.pool, w.started_at, w.id
