-- What these batches tell about themselves: their counters, and those that their result repeats.
SELECT b.execution_id AS id, b.total, b.completed, b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned, b.skipped,
       e.result::text AS result
FROM batch b JOIN execution e ON e.id = b.execution_id WHERE b.execution_id = ANY($1)
