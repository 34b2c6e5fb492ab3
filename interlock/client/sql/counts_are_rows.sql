-- Batches whose counters are not the counts of their present partitions.
WITH counted AS (
    SELECT b.execution_id, count(e.id) AS total,
           count(*) FILTER (WHERE e.status = 'completed') AS completed, count(*) FILTER (WHERE e.status = 'partial') AS partial,
           count(*) FILTER (WHERE e.status = 'failed') AS failed, count(*) FILTER (WHERE e.status = 'timed_out') AS timed_out,
           count(*) FILTER (WHERE e.status = 'cancelled') AS cancelled, count(*) FILTER (WHERE e.status = 'abandoned') AS abandoned,
           count(*) FILTER (WHERE e.status = 'skipped') AS skipped
    FROM batch b LEFT JOIN execution e ON e.id BETWEEN first_child(b.execution_id) AND last_child(b.execution_id)
      AND e.parent_id = b.execution_id AND e.child_key <> '$plan' AND e.superseded_by IS NULL
    GROUP BY b.execution_id
)
SELECT b.execution_id::text AS subject, count(*) OVER () AS total,
       format('counts %s of %s partitions as ended, %s of %s rows have', processed(b), b.total,
              c.completed + c.partial + c.failed + c.timed_out + c.cancelled + c.abandoned + c.skipped, c.total) AS detail
FROM batch b JOIN counted c ON c.execution_id = b.execution_id
WHERE (b.total, b.completed, b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned, b.skipped)
      IS DISTINCT FROM (c.total, c.completed, c.partial, c.failed, c.timed_out, c.cancelled, c.abandoned, c.skipped)
ORDER BY 1 LIMIT 20
