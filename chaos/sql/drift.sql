-- By how much the counters of the keys called like this differ from the rows that they count.
SELECT coalesce(sum(abs(q.active - coalesce(s.n, 0)) + abs(q.waiting - coalesce(w.n, 0))), 0)::int
FROM queue q
LEFT JOIN (SELECT key_id, count(*) AS n FROM slot GROUP BY key_id) s ON s.key_id = q.id
LEFT JOIN (SELECT key, count(*) AS n FROM waiting w JOIN lane l ON l.id = w.lane_id CROSS JOIN unnest(l.keys) key
           GROUP BY key) w ON w.key = q.id
WHERE q.name LIKE $1
