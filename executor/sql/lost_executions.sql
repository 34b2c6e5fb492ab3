-- What is held under a lease that has ended, by the database's clock.
SELECT f.execution_id, e.attempt, e.status::text AS status, e.losses, e.cancel_reason, f.worker_id
FROM in_flight f JOIN worker w ON w.id = f.worker_id
JOIN execution e ON e.id BETWEEN f.execution_id AND f.execution_id
WHERE w.lease_expires_at < now() AND e.status IN ('running', 'cancelling')
ORDER BY f.execution_id LIMIT $1
