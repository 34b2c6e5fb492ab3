-- Per key, since when the first of its waiters waits. $1: only these keys, null for all. Looks at heads of lanes, never at
-- the backlog behind them.
SELECT f.key_id, w.since
FROM (
    SELECT k AS key_id, min(ARRAY[l.head_seq, l.id]) AS head FROM lane l CROSS JOIN unnest(l.keys) k
    WHERE l.head_seq IS NOT NULL AND ($1::int[] IS NULL OR (l.keys && $1 AND k = ANY($1))) GROUP BY k
) f CROSS JOIN LATERAL (SELECT since FROM waiting WHERE lane_id = f.head[2] AND seq = f.head[1] LIMIT 1) w
