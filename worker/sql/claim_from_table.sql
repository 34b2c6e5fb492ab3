-- Claim what no message brought: the oldest of the pool that have waited $4 seconds, skipping what others are taking.
WITH told AS (
    SELECT e.id, e.attempt FROM in_flight f JOIN execution e ON e.id BETWEEN f.execution_id AND f.execution_id
    WHERE f.worker_id IS NULL AND f.pool = $2 AND f.since <= now() - $4 * interval '1 second'
      AND e.attempt = f.attempt AND is_claimable(e)
    ORDER BY f.since LIMIT $3 FOR UPDATE OF e SKIP LOCKED
), moved AS (
    UPDATE execution e SET status = 'running', worker_id = $1, moves = e.moves + 1, started_at = now()
    FROM told t
    WHERE e.id BETWEEN t.id AND t.id AND e.attempt = t.attempt AND e.status = 'scheduled' AND is_claimable(e) AND lease_lives($1)
    RETURNING e.id, e.epoch, e.moves, e.status, e.attempt, e.failures, e.action, e.action_version, e.parent_id, e.child_key,
              e.pool, e.params, e.requested_at
), flying AS (
    UPDATE in_flight f SET worker_id = $1 FROM moved m WHERE f.execution_id BETWEEN m.id AND m.id
), limits AS MATERIALIZED (
    SELECT array_agg(id) AS ids, run_backstop(action, action_version) AS backstop FROM moved GROUP BY action, action_version
), backstop AS (
    INSERT INTO timer (execution_id, kind, due)
    SELECT unnest(ids), 'run', now() + limits.backstop FROM limits WHERE limits.backstop IS NOT NULL
    ON CONFLICT (execution_id, kind) DO UPDATE SET due = excluded.due
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, 'scheduled', status, attempt, action, parent_id, pool, NULL, NULL, NULL,
                                  NULL, $1)::move), 'worker', $5) AS messages,
       array_agg(ROW(id, attempt, failures, action, action_version, params::text,
                     extract(epoch FROM now() - requested_at),
                     CASE WHEN parent_id IS NOT NULL THEN retry_of(parent_id, child_key) END)::claimed) AS claimed
FROM moved
