-- A new incarnation.
INSERT INTO worker (id, pool, capacity, host, pid, lease_expires_at)
VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 second')
