-- Leaves that ran to a result without the attempt that produced it.
SELECT e.id::text AS subject, count(*) OVER () AS total,
       format('is %s by attempt %s, which is remembered as %s', e.status, e.attempt, coalesce(a.outcome, 'nothing')) AS detail
FROM execution e LEFT JOIN execution_attempt a ON a.execution_id = e.id AND a.attempt = e.attempt
WHERE e.kind = 'action' AND e.status IN ('completed', 'partial', 'skipped') AND a.outcome IS DISTINCT FROM e.status::text
ORDER BY 1 LIMIT 20
