-- The moves of one execution behind number $2, in order.
SELECT move, source::text AS source, target::text AS target, attempt, epoch, actor, reason, at
FROM execution_transition WHERE execution_id = $1 AND move > $2 ORDER BY move
