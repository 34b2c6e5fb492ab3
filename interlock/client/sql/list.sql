-- Executions before the cursor, newest first. A null filter lets everything pass; $6: no children of others.
SELECT id, status::text AS status, action, attempt, pool, priority, tags::text AS tags, error::text AS error, not_before,
       requested_at, started_at, finished_at, kind, parent_id, child_key
FROM execution
WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text[] IS NULL OR status = ANY($2::text[]::status[]))
  AND ($3::text IS NULL OR action = $3) AND ($4::text IS NULL OR tags ? $4)
  AND (NOT $6 OR parent_id IS NULL)
ORDER BY id DESC LIMIT $5
