-- Keys whose count of slots differs from their slots.
SELECT q.scope || ' ' || q.name AS subject, format('active is %s, slots are %s', q.active, coalesce(s.n, 0)) AS detail,
       count(*) OVER () AS total
FROM queue q LEFT JOIN (SELECT key_id, count(*) AS n FROM slot GROUP BY key_id) s ON s.key_id = q.id
WHERE q.active <> coalesce(s.n, 0)
ORDER BY 1 LIMIT 20
