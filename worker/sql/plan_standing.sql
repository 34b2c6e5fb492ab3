-- The batch that an execution plans: how far the plan is, and whether it is still wanted.
SELECT b.execution_id AS batch, b.epoch, b.definition::text AS definition, p.params::text AS params, b.plan_cursor AS cursor,
       b.plan_digest AS digest, b.planned_at IS NOT NULL AS planned, p.status = 'running' AND e.epoch = p.epoch AS runs
FROM execution e JOIN batch b ON b.execution_id BETWEEN e.parent_id AND e.parent_id
JOIN execution p ON p.id BETWEEN e.parent_id AND e.parent_id
WHERE e.id = $1
