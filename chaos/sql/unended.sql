-- How many of these have not ended, and of those that are not even accepted.
SELECT count(*) FILTER (WHERE e.id IS NULL OR NOT is_terminal(e.status)) AS n
FROM unnest($1::uuid[]) u LEFT JOIN execution e ON e.id = u
