-- A worker's committed move that a database failover lost: make it again, from a legal source, under its attempt. The ids
-- come sorted, and the index is walked in their order, so rows are locked in the order of ids. Only a worker is believed,
-- and of what runs only the one that runs it: nobody else can have ended it.
WITH moved AS (
    UPDATE execution e
    SET status = t.target::status, moves = e.moves + 1,
        worker_id = CASE t.target WHEN 'requested' THEN NULL WHEN 'running' THEN substring(t.actor FROM '^/worker/(.+)$')::uuid
                                  ELSE e.worker_id END,
        started_at = CASE t.target WHEN 'running' THEN now() ELSE e.started_at END,
        finished_at = CASE WHEN is_terminal(t.target::status) THEN now() END
    FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[]) t(id, attempt, source, target, actor)
    WHERE e.id BETWEEN t.id AND t.id AND e.attempt = t.attempt AND e.status = t.source::status
      AND t.actor ~ '^/worker/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      AND (t.source = 'scheduled' OR t.actor = '/worker/' || e.worker_id)
    RETURNING t.actor, e.worker_id AS holder, e.started_at,
              ROW(e.id, e.epoch, e.moves, t.source, e.status, e.attempt, e.action, e.parent_id, e.pool, NULL, NULL,
                  'the message was ahead of the row', NULL, e.worker_id)::move AS m
), flying AS (
    UPDATE in_flight f SET worker_id = moved.holder FROM moved WHERE f.execution_id BETWEEN (m).id AND (m).id AND (m).target = 'running'
), kept AS (
    INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, started_at)
    SELECT (m).id, (m).attempt, (m).target, holder, coalesce(started_at, now()) FROM moved
    WHERE is_terminal((m).target) AND holder IS NOT NULL
    ON CONFLICT (execution_id, attempt) DO NOTHING
), told AS (
    SELECT actor, array_agg(m) AS moves, array_agg((m).id) AS moved FROM moved GROUP BY actor
)
SELECT record_moves(moves, 'executor', actor) AS messages, moved, count_ends(moves) FROM told
