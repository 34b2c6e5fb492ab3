-- Of these keys of a plan that is only looked at, the first that it has already.
SELECT child_key FROM batch_preview_key WHERE plan_id = $1 AND child_key = ANY($2) ORDER BY position LIMIT 1
