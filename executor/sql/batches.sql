-- Open batches among these, as they stand, with the end of their planning.
SELECT e.id, e.epoch, e.status::text AS status, e.cancel_reason, b.definition::text AS definition, b.total, b.completed,
       b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned, b.skipped, b.sealed_at IS NOT NULL AS sealed,
       b.planned_at IS NOT NULL AS planned, b.drains, p.status::text AS plan_status, p.error ->> 'message' AS plan_error
FROM unnest($1::uuid[]) u(id) JOIN batch b ON b.execution_id BETWEEN u.id AND u.id JOIN execution e ON e.id BETWEEN u.id AND u.id
CROSS JOIN LATERAL child_id(e.id, e.epoch, '$plan') c LEFT JOIN execution p ON p.id BETWEEN c AND c
WHERE b.ended_at IS NULL
