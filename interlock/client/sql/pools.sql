-- Worker pools and how they stand, by name: those that executions or actions name, and those that have workers. $1: only
-- these, null for all.
SELECT p.name, q.id, coalesce(q.paused, false) AS paused, coalesce(q.gated, false) AS gated,
       live_workers(p.name) AS workers, w.draining, w.capacity, f.running, f.scheduled,
       CASE WHEN q.paused THEN 0 ELSE pool_window(p.name) END AS room, coalesce(q.waiting, 0) AS waiting
FROM (
    SELECT name FROM queue WHERE scope = 'pool'
    UNION SELECT pool FROM worker WHERE ended_at IS NULL
    UNION SELECT definition ->> 'pool' FROM action WHERE withdrawn_at IS NULL AND definition ? 'pool'
) p
LEFT JOIN queue q ON q.scope = 'pool' AND q.name = p.name
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE draining)::int AS draining,
           coalesce(sum(capacity) FILTER (WHERE NOT draining), 0)::int AS capacity
    FROM worker WHERE pool = p.name AND ended_at IS NULL AND lease_expires_at > now()
) w
CROSS JOIN LATERAL (
    SELECT count(worker_id)::int AS running, (count(*) - count(worker_id))::int AS scheduled
    FROM in_flight WHERE pool = p.name
) f
WHERE $1::text[] IS NULL OR p.name = ANY($1)
ORDER BY p.name
