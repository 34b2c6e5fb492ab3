-- Batches that have ended while something of them is open, and open ones in which nothing can come any more for ten seconds.
WITH standing AS (
    SELECT b.*, is_terminal(e.status) AS over, e.status, p.status AS plan,
           greatest(b.progressed_at, b.planned_at, b.sealed_at, e.started_at) AS last_at
    FROM batch b JOIN execution e ON e.id = b.execution_id
    LEFT JOIN execution p ON p.id = child_id(e.id, e.epoch, '$plan')
)
SELECT s.execution_id::text AS subject, count(*) OVER () AS total,
       format('is %s with %s of %s partitions ended', s.status, s.completed + s.partial + s.failed + s.timed_out + s.cancelled
              + s.abandoned + s.skipped, s.total) AS detail
FROM standing s
WHERE s.over <> (s.ended_at IS NOT NULL)
   OR (s.over AND (s.total <> s.completed + s.partial + s.failed + s.timed_out + s.cancelled + s.abandoned + s.skipped
                   OR NOT coalesce(is_terminal(s.plan), true)))
   OR (NOT s.over AND (s.sealed_at IS NOT NULL OR s.status = 'cancelling') AND coalesce(is_terminal(s.plan), true)
       AND s.total = s.completed + s.partial + s.failed + s.timed_out + s.cancelled + s.abandoned + s.skipped
       AND s.last_at < now() - interval '10 seconds')
ORDER BY 1 LIMIT 20
