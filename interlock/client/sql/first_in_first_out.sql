-- Admissions out of a lane that overtook an earlier place in the same lane.
WITH admitted AS (
    SELECT execution_id, lane_id, seq, lag(seq) OVER (PARTITION BY lane_id ORDER BY position) AS before
    FROM execution_transition WHERE target = 'scheduled' AND lane_id IS NOT NULL
)
SELECT execution_id::text AS subject, format('lane %s: place %s was admitted after place %s', lane_id, seq, before) AS detail,
       count(*) OVER () AS total
FROM admitted WHERE seq <= before
ORDER BY 1 LIMIT 20
