-- The attempts that were lost with their workers, and when the lease of each ended.
SELECT a.execution_id, a.attempt, extract(epoch FROM w.lease_expires_at)::float8 AS lease_end
FROM execution_attempt a JOIN worker w ON w.id = a.worker_id
WHERE a.outcome = 'lost' AND a.execution_id = ANY($1)
