-- Claim what a message offered, under the fence: the row is scheduled, for this very attempt, and our lease lives.
WITH told AS (
    SELECT t.id, t.attempt FROM unnest($2::uuid[], $3::int[]) t(id, attempt)
    JOIN claimable c ON c.execution_id = t.id AND c.attempt = t.attempt
), held AS (
    SELECT e.id FROM execution e WHERE e.id IN (SELECT id FROM told) ORDER BY e.id FOR UPDATE
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
                                  NULL, $1)::move), 'worker', $4) AS messages,
       array_agg(ROW(id, attempt, failures, action, action_version, params::text,
                     extract(epoch FROM now() - requested_at))::claimed) AS claimed
FROM moved
