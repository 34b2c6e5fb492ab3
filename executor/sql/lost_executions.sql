-- What is held under a lease that has ended, by the database's clock.
SELECT f.execution_id, e.attempt, e.status::text AS status, e.losses, e.cancel_reason, f.worker_id
FROM in_flight f JOIN worker w ON w.id = f.worker_id
CROSS JOIN LATERAL (SELECT * FROM execution WHERE id = f.execution_id OFFSET 0) e
WHERE w.lease_expires_at < now() AND e.status IN ('running', 'cancelling')
ORDER BY f.execution_id LIMIT $1
