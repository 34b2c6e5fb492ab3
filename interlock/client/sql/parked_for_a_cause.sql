-- Lanes parked on a key that has room, and that nobody would look at: a wake-up was lost. A pool is looked at while it is
-- gated; room that a claim keeps free is looked at by the reconciler.
SELECT q.scope || ' ' || q.name AS subject, count(*) OVER () AS total,
       format('lane %s waits for it, although it has room (active %s, limit %s) and owes nothing', l.id, q.active,
              coalesce(q.lim::text, 'none')) AS detail
FROM lane l JOIN queue q ON q.id = l.parked_on
WHERE l.head_seq IS NOT NULL AND NOT q.owed AND NOT q.paused AND q.wake_at IS NULL AND q.claim_lane IS NULL
  AND CASE q.scope WHEN 'pool' THEN NOT q.gated ELSE q.lim IS NULL OR q.active < q.lim END
ORDER BY l.id LIMIT 20
