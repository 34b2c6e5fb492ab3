-- The batch that an execution plans: how far the plan is, and whether it is still wanted. `preview` is a plan that was made
-- anew: the one that this execution makes, to be looked at, or the one that it is to make partitions of.
SELECT b.execution_id AS batch, b.epoch, b.definition::text AS definition, p.params::text AS params, b.plan_cursor AS cursor,
       b.plan_digest AS digest, b.planned_at IS NOT NULL AS planned, p.status = 'running' AND e.epoch = p.epoch AS runs,
       v.plan_id AS preview
FROM execution e JOIN batch b ON b.execution_id BETWEEN e.parent_id AND e.parent_id
JOIN execution p ON p.id BETWEEN e.parent_id AND e.parent_id
LEFT JOIN batch_preview v ON v.batch_id = b.execution_id AND v.applied_in = b.epoch
WHERE e.id = $1
UNION ALL
SELECT b.execution_id, b.epoch, b.definition::text, p.params::text, v.cursor, v.digest, v.planned_at IS NOT NULL,
       b.epoch = v.epoch, v.plan_id
FROM batch_preview v JOIN batch b ON b.execution_id = v.batch_id JOIN execution p ON p.id = b.execution_id
WHERE v.plan_id = $1
