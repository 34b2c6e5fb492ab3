-- Failed partitions of a batch by what they failed of, the commonest first, each with some of its keys.
SELECT coalesce(e.error ->> 'fingerprint', e.error ->> 'class') AS fingerprint, min(e.error ->> 'class') AS error_class,
       min(e.error ->> 'message') AS message, count(*) AS partitions, (array_agg(e.child_key ORDER BY e.id))[1:3] AS keys
FROM execution e
WHERE e.id BETWEEN first_child($1) AND last_child($1) AND e.parent_id = $1 AND e.child_key <> '$plan'
  AND e.superseded_by IS NULL AND e.status IN ('failed', 'timed_out', 'abandoned')
GROUP BY 1 ORDER BY 4 DESC, 1 LIMIT $2
