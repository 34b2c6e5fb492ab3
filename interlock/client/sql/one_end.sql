-- Ended executions that have no terminal move in their epoch, and epochs that have more than one.
WITH ends AS (
    SELECT execution_id, epoch, count(*) AS n FROM execution_transition WHERE is_terminal(target) GROUP BY execution_id, epoch
), wrong AS (
    SELECT e.id, e.epoch, 0 AS n FROM execution e LEFT JOIN ends ON ends.execution_id = e.id AND ends.epoch = e.epoch
    WHERE is_terminal(e.status) AND ends.n IS NULL
    UNION ALL
    SELECT execution_id, epoch, n FROM ends WHERE n > 1
)
SELECT id::text AS subject, format('epoch %s has %s terminal moves', epoch, n) AS detail, count(*) OVER () AS total
FROM wrong ORDER BY 1 LIMIT 20
