-- A batch as it stands: its counts (`kept` are the partitions that a restart left as they had ended), what of it is in
-- flight, its live key, and what it got done in the last five minutes.
SELECT e.id, e.action AS name, e.status::text AS status, e.epoch, e.params::text AS params, e.error::text AS error,
       e.cancel_reason, e.requested_at, e.started_at, e.finished_at, now() AS now, b.definition::text AS definition,
       b.total AS made, b.completed, b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned, b.skipped,
       CASE WHEN b.epoch > 1 THEN b.total - b.plan_cursor ELSE 0 END AS kept,
       b.sealed_at IS NOT NULL AS sealed, b.planned_at IS NOT NULL AS planned, p.status::text AS plan_status,
       greatest(b.progressed_at, b.planned_at, e.started_at) AS progressed_at, f.scheduled, f.running, q.lim AS max_parallel,
       q.paused, r.recent
FROM execution e JOIN batch b ON b.execution_id = e.id
-- Computed once, not for each row that it is compared with.
CROSS JOIN LATERAL (SELECT child_id(e.id, e.epoch, '$plan') AS id OFFSET 0) plan
LEFT JOIN execution p ON p.id = plan.id
LEFT JOIN queue q ON q.scope = 'leaf' AND q.name = 'batch:' || e.id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE i.worker_id IS NULL) AS scheduled, count(*) FILTER (WHERE i.worker_id IS NOT NULL) AS running
    FROM in_flight i
    WHERE i.execution_id BETWEEN first_child(e.id) AND last_child(e.id) AND i.parent_id = e.id
      AND i.execution_id <> plan.id) f
CROSS JOIN LATERAL (
    SELECT sum(m.n)::bigint AS recent FROM queue_minute m
    WHERE m.key_id = q.id AND m.event = 'finished' AND m.minute >= date_trunc('minute', now()) - interval '4 minutes'
      AND m.minute >= date_trunc('minute', e.started_at)) r
WHERE e.id = $1
