-- These have their executions.
UPDATE batch_callback c SET requested_at = now()
FROM unnest($1::uuid[], $2::int[], $3::text[]) t(id, epoch, event)
WHERE c.execution_id BETWEEN t.id AND t.id AND c.epoch = t.epoch AND c.event = t.event AND c.requested_at IS NULL
