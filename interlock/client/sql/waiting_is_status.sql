-- Waiting rows whose execution does not wait there, and executions with a place that nobody keeps.
SELECT coalesce(w.execution_id, e.id)::text AS subject, count(*) OVER () AS total,
       format('is %s at lane %s place %s, waits at lane %s place %s', coalesce(e.status::text, 'not there'), e.lane_id, e.seq,
              w.lane_id, w.seq) AS detail
FROM waiting w FULL JOIN (SELECT * FROM execution WHERE seq IS NOT NULL) e
  ON e.id = w.execution_id AND e.lane_id = w.lane_id AND e.seq = w.seq
WHERE w.execution_id IS NULL OR e.id IS NULL OR e.status <> 'requested'
ORDER BY 1 LIMIT 20
