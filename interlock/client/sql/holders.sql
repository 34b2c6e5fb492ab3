-- Who holds a slot of key $1, those first that have it longest, at most $2. Only what runs has a lease.
SELECT s.execution_id AS id, e.action, e.status::text AS status, s.since, w.id AS worker_id,
       w.lease_expires_at AS lease_until
FROM (SELECT execution_id, since FROM slot WHERE key_id = $1 ORDER BY since, execution_id LIMIT $2) s
JOIN execution e ON e.id = s.execution_id
LEFT JOIN worker w ON w.id = e.worker_id AND e.status IN ('running', 'cancelling')
ORDER BY s.since, s.execution_id
