-- Items of a plan that was made anew, behind the position $2, in its order: what of it is to be made, once it is applied.
SELECT position, child_key AS key, params::text AS params FROM batch_preview_key
WHERE plan_id = $1 AND position > $2 ORDER BY position LIMIT $3
