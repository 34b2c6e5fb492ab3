-- Which workers of a pool these processes were that ended at these times, in seconds of the epoch: an id of a process comes
-- again, so of several the newest.
SELECT DISTINCT ON (c.n) w.id AS worker, c.n::int AS n
FROM unnest($2::int[], $3::float8[]) WITH ORDINALITY c(pid, at, n)
JOIN worker w ON w.pid = c.pid AND w.pool = $1 AND extract(epoch FROM w.started_at) <= c.at
ORDER BY c.n, w.started_at DESC
