-- A worker's committed move that a database failover lost: make it again, from a legal source, under its attempt.
WITH told AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[]) t(id, attempt, source, target, actor)
), held AS (
    SELECT e.id FROM execution e WHERE e.id = ANY($1) ORDER BY e.id FOR UPDATE
), moved AS (
    UPDATE execution e
    SET status = t.target::status, moves = e.moves + 1,
        worker_id = CASE WHEN t.target = 'requested' THEN NULL ELSE e.worker_id END,
        finished_at = CASE WHEN is_terminal(t.target::status) THEN now() END
    FROM told t JOIN held h ON h.id = t.id
    WHERE e.id = t.id AND e.attempt = t.attempt AND e.status = t.source::status
    RETURNING t.actor, ROW(e.id, e.epoch, e.moves, t.source, e.status, e.attempt, e.action, e.parent_id, e.pool, NULL,
                           NULL, 'the message was ahead of the row', NULL, e.worker_id)::move AS m
)
SELECT record_moves(array_agg(m), 'executor', actor) AS messages, array_agg((m).id) AS moved FROM moved GROUP BY actor
