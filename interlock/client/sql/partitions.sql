-- Partitions of a batch behind the id $2, in the order of ids; $4: those that a restart superseded, too.
SELECT e.id, e.child_key AS key, e.status::text AS status, e.attempt, e.epoch, e.superseded_by, e.error::text AS error,
       e.result::text AS result, e.started_at, e.finished_at, e.worker_id
FROM execution e
WHERE e.id > greatest($2, first_child($1)) AND e.id <= last_child($1) AND e.parent_id = $1 AND e.child_key <> '$plan'
  AND ($3::text[] IS NULL OR e.status = ANY($3::text[]::status[])) AND ($4 OR e.superseded_by IS NULL)
ORDER BY e.id LIMIT $5
