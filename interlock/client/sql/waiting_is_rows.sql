-- Keys whose count of waiters differs from the waiting rows of their lanes.
SELECT q.scope || ' ' || q.name AS subject, format('waiting is %s, rows are %s', q.waiting, coalesce(w.n, 0)) AS detail,
       count(*) OVER () AS total
FROM queue q LEFT JOIN (
    SELECT key, sum(rows.n) AS n
    FROM (SELECT lane_id, count(*) AS n FROM waiting GROUP BY lane_id) rows
    JOIN lane l ON l.id = rows.lane_id CROSS JOIN unnest(l.keys) key GROUP BY key
) w ON w.key = q.id
WHERE q.waiting <> coalesce(w.n, 0)
ORDER BY 1 LIMIT 20
