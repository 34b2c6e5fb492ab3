-- Open executions that nothing would ever move: without a place, a time, a lease or a person.
SELECT e.id::text AS subject, count(*) OVER () AS total,
       format('is %s%s', e.status, CASE WHEN e.status = 'requested' THEN ' without a place in a lane or a time to enter one'
                                        ELSE ', held by worker ' || coalesce(e.worker_id::text, 'nobody') || ', which is closed' END) AS detail
FROM execution e LEFT JOIN worker w ON w.id = e.worker_id
WHERE (e.status = 'requested' AND e.seq IS NULL AND e.paused_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM timer t WHERE t.execution_id = e.id AND t.kind = 'enter'))
   OR (e.kind = 'action' AND e.status IN ('running', 'cancelling') AND (w.id IS NULL OR w.ended_at IS NOT NULL))
ORDER BY 1 LIMIT 20
