-- How many executions of a selection there are of each action and status. A null filter lets everything pass.
SELECT action, status::text AS status, count(*) AS executions FROM execution
WHERE status = ANY($1::text[]::status[]) AND ($2::text IS NULL OR action = $2) AND ($3::text IS NULL OR tags ? $3)
  AND ($4::text IS NULL OR pool = $4) AND requested_at <= $5
GROUP BY action, status ORDER BY action, status
