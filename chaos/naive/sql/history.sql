-- The history in the form of ours.
SELECT id AS execution_id, row_number() OVER (PARTITION BY id ORDER BY position)::int AS move, position, source, target,
       1 AS attempt, 1 AS epoch, 'naive' AS actor, NULL::bigint AS lane_id, NULL::bigint AS seq,
       extract(epoch FROM at)::float8 AS at
FROM job_move ORDER BY id, position
