-- Leaves whose status says that they are in flight and that have no such row, or the other way round.
SELECT coalesce(e.id, f.execution_id)::text AS subject, count(*) OVER () AS total,
       format('is %s (attempt %s), in flight: %s', coalesce(e.status::text, 'not there'), e.attempt,
              coalesce('attempt ' || f.attempt, 'no')) AS detail
FROM (SELECT * FROM execution WHERE kind = 'action' AND status IN ('scheduled', 'running', 'cancelling')) e
FULL JOIN in_flight f ON f.execution_id = e.id
WHERE e.id IS NULL OR f.execution_id IS NULL OR f.attempt <> e.attempt
ORDER BY 1 LIMIT 20
