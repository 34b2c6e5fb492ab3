-- Slots of nobody, and slots of what ended or went back to waiting more than ten seconds ago.
SELECT s.execution_id::text AS subject, count(*) OVER () AS total,
       format('holds a slot of %s and is %s', coalesce(q.name, 'key ' || s.key_id), coalesce(e.status::text, 'not there')) AS detail
FROM slot s LEFT JOIN execution e ON e.id = s.execution_id LEFT JOIN queue q ON q.id = s.key_id
LEFT JOIN execution_transition t ON t.execution_id = e.id AND t.move = e.moves
WHERE e.id IS NULL OR q.id IS NULL
   OR ((is_terminal(e.status) OR e.status = 'requested') AND coalesce(t.at, e.finished_at, s.since) < now() - interval '10 seconds')
ORDER BY 1 LIMIT 20
