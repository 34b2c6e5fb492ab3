-- The newest version of every action, and how its key stands.
SELECT a.name, a.version, a.definition::text AS definition, a.created_at, a.withdrawn_at, q.lim AS "limit",
       coalesce(q.active, 0) AS active, coalesce(q.waiting, 0) AS waiting, coalesce(q.paused, false) AS paused
FROM (SELECT DISTINCT ON (name) * FROM action ORDER BY name, version DESC) a
LEFT JOIN queue q ON q.scope = 'leaf' AND q.name = 'action:' || a.name
ORDER BY a.name
