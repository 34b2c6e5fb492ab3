-- The whole history of these executions.
SELECT execution_id, move, position, source::text AS source, target::text AS target, attempt, epoch, actor, lane_id, seq,
       extract(epoch FROM at)::float8 AS at
FROM execution_transition WHERE execution_id = ANY($1) ORDER BY execution_id, move
