-- The plan that was last made anew for a batch.
SELECT plan_id, epoch, planned_at IS NOT NULL AS planned FROM batch_preview WHERE batch_id = $1
