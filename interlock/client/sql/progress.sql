-- How many of these stand where, and which of them have ended.
SELECT status::text AS status, count(*) AS count, CASE WHEN is_terminal(status) THEN array_agg(id) END AS ended
FROM execution WHERE id = ANY($1) GROUP BY status
