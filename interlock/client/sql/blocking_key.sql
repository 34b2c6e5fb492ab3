-- One key, with what can keep others from it; a claim counts while the head that made it waits and can lead anywhere.
SELECT q.scope, q.name, q.lim, q.rate_every, q.paused, q.gated, q.active, q.owed, q.wake_at, q.claim_lane, q.claim_prio,
       q.claim_seq, w.execution_id AS claimant, coalesce(l.id IS NOT NULL AND claim_stands(l.id), false) AS claim_holds,
       least(CASE WHEN q.lim IS NOT NULL THEN q.lim - q.active END,
             CASE WHEN q.rate_every IS NOT NULL THEN rate_room(q.tat, q.rate_every, q.rate_burst) END) AS room
FROM queue q
LEFT JOIN lane l ON l.id = q.claim_lane AND l.head_seq = q.claim_seq
LEFT JOIN waiting w ON w.lane_id = l.id AND w.seq = l.head_seq
WHERE q.id = $1
