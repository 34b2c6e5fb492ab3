-- Claim what no message brought: the oldest of the pool that have waited $4 seconds, skipping what others are taking.
WITH told AS (
    SELECT f.execution_id AS id, f.attempt FROM in_flight f
    WHERE f.worker_id IS NULL AND f.pool = $2 AND f.since <= now() - $4 * interval '1 second'
      AND EXISTS (SELECT 1 FROM claimable c WHERE c.execution_id = f.execution_id)
    ORDER BY f.since LIMIT $3
), held AS (
    SELECT e.id FROM execution e WHERE e.id IN (SELECT id FROM told) ORDER BY e.id FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE execution e SET status = 'running', worker_id = $1, moves = e.moves + 1, started_at = now()
    FROM told t JOIN held h ON h.id = t.id
    WHERE e.id = t.id AND e.status = 'scheduled' AND e.attempt = t.attempt AND e.paused_at IS NULL
      AND EXISTS (SELECT 1 FROM worker w WHERE w.id = $1 AND w.ended_at IS NULL AND w.lease_expires_at > now())
    RETURNING e.*
), flying AS (
    UPDATE in_flight f SET worker_id = $1 FROM moved m WHERE f.execution_id = m.id
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, 'scheduled', status, attempt, action, parent_id, pool, NULL, NULL, NULL,
                                  NULL, $1)::move), 'worker', $5) AS messages,
       array_agg(ROW(id, attempt, failures, action, action_version, params::text,
                     extract(epoch FROM now() - requested_at))::claimed) AS claimed
FROM moved
