-- Everything about these executions but their history.
SELECT id, status::text AS status, action, attempt, pool, priority, tags::text AS tags, error::text AS error, not_before,
       requested_at, started_at, finished_at, action_version, failures, losses, moves, epoch, kind, parent_id, child_key, root_id,
       superseded_by,
       worker_id, params::text AS params, result::text AS result, cancel_reason, deadline, paused_at, scheduled_at
FROM execution WHERE id = ANY($1)
