-- A batch held against its rows: how far its counters are from the counts of its partitions, how many of the $2 that were
-- wanted have not ended or are not there, and how many lost their worker and went on with another.
SELECT (abs(b.total - r.total) + abs(b.completed - r.completed) + abs(b.partial - r.partial) + abs(b.failed - r.failed)
        + abs(b.timed_out - r.timed_out) + abs(b.cancelled - r.cancelled) + abs(b.abandoned - r.abandoned)
        + abs(b.skipped - r.skipped))::int AS drift,
       ($2::int - r.ended)::int AS lost, r.taken_over::int AS taken_over
FROM batch b
CROSS JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE e.status = 'completed') AS completed,
           count(*) FILTER (WHERE e.status = 'partial') AS partial, count(*) FILTER (WHERE e.status = 'failed') AS failed,
           count(*) FILTER (WHERE e.status = 'timed_out') AS timed_out,
           count(*) FILTER (WHERE e.status = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE e.status = 'abandoned') AS abandoned,
           count(*) FILTER (WHERE e.status = 'skipped') AS skipped,
           count(DISTINCT e.child_key) FILTER (WHERE is_terminal(e.status)) AS ended,
           count(*) FILTER (WHERE e.losses > 0) AS taken_over
    FROM execution e WHERE e.parent_id = b.execution_id AND e.child_key <> '$plan') r
WHERE b.execution_id = $1
