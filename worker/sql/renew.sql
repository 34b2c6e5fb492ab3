-- Renew a lease that has not ended (an ended one never comes back), tell what we hold, and hear what the table says: what it
-- gives us that we do not hold, what of ours is to be cancelled, what of that without its grace, and what is ours no more.
WITH mine AS (
    SELECT * FROM unnest($3::uuid[], $4::int[]) h(id, attempt)
), renewed AS (
    UPDATE worker SET lease_expires_at = now() + $2 * interval '1 second'
    WHERE id = $1 AND ended_at IS NULL AND lease_expires_at > now() RETURNING draining
), given AS (
    SELECT e.id, e.attempt, e.status, f.forced FROM in_flight f
    CROSS JOIN LATERAL (SELECT * FROM execution WHERE id = f.execution_id OFFSET 0) e
    WHERE f.worker_id = $1 AND e.worker_id = $1
)
SELECT (SELECT draining FROM renewed) AS draining,
       ARRAY(SELECT ROW(g.id, g.attempt) FROM given g WHERE g.id NOT IN (SELECT id FROM mine)) AS unknown,
       ARRAY(SELECT id FROM given WHERE status = 'cancelling') AS cancelled,
       ARRAY(SELECT id FROM given WHERE forced) AS forced,
       ARRAY(SELECT m.id FROM mine m WHERE (m.id, m.attempt) NOT IN (SELECT id, attempt FROM given)) AS gone
