-- What a restart would take of a batch: how many of each status, the commonest first, each with the first of its keys.
SELECT e.status::text AS status, count(*) AS partitions, (array_agg(e.child_key ORDER BY e.id))[1:$5] AS keys
FROM chosen_partitions($1, $2::text[]::status[], $3, $4) c JOIN execution e ON e.id = c
GROUP BY 1 ORDER BY 2 DESC, 1
