-- The other keys of lane $1 that would keep its head waiting, too, were $2 not in its way.
SELECT q.name FROM lane l JOIN queue q ON q.id = ANY(l.keys)
WHERE l.id = $1 AND q.id <> $2 AND q.scope <> 'pool' AND (q.paused OR q.active >= q.lim OR q.wake_at > now())
ORDER BY q.name
