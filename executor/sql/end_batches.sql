-- End batches whose every partition has ended, as was judged on their counts: once they are all in, these do not move any
-- more. One conditional update, so there is one winner; whoever comes second, or for a former epoch, finds nothing.
WITH ended AS (
    UPDATE execution e
    SET status = t.target::status, moves = e.moves + 1, finished_at = now(), result = t.result::jsonb, error = t.error::jsonb
    FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[]) t(id, epoch, target, result, error, reason)
    JOIN batch b ON b.execution_id BETWEEN t.id AND t.id
    WHERE e.id BETWEEN t.id AND t.id AND e.epoch = t.epoch AND b.epoch = t.epoch AND e.kind = 'batch' AND e.status IN ('running', 'cancelling')
      AND b.ended_at IS NULL AND processed(b) = b.total AND (b.sealed_at IS NOT NULL OR e.status = 'cancelling')
      AND NOT EXISTS (SELECT 1 FROM child_id(e.id, e.epoch, '$plan') c JOIN execution p ON p.id BETWEEN c AND c
                      WHERE NOT is_terminal(p.status))
    RETURNING e.*, t.reason
), closed AS (
    UPDATE batch b SET ended_at = now() FROM ended e WHERE b.execution_id BETWEEN e.id AND e.id
), called AS (
    INSERT INTO batch_callback (execution_id, epoch, event)
    SELECT e.id, e.epoch, v.event
    FROM ended e JOIN batch b ON b.execution_id BETWEEN e.id AND e.id
    CROSS JOIN LATERAL (VALUES ('finished'), (e.status::text)) v(event)
    WHERE notifies(b.definition, v.event)
), told AS (
    SELECT array_agg(ROW(id, epoch, moves, CASE WHEN cancel_reason IS NULL THEN 'running' ELSE 'cancelling' END, status, attempt,
                         action, parent_id, pool, NULL, NULL, reason, NULL, NULL)::move) AS moves,
           coalesce(array_agg(id), '{}') AS ids
    FROM ended
)
SELECT record_moves(moves, 'executor', $7) AS messages, ids AS ended FROM told
