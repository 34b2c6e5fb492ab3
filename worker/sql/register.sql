-- A new incarnation.
INSERT INTO worker (id, pool, capacity, host, pid, containment, lease_expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second')
