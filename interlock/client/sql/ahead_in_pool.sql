-- How many of those that wait for pool $1 go before the one of priority $2, turn $3 and number $4, counted up to $5. The
-- lanes of a pool take turns: the n-th of a lane has the turn of its lane and n - 1.
SELECT count(*)::int FROM (
    SELECT 1 FROM lane l CROSS JOIN LATERAL (
        SELECT 1 FROM waiting w WHERE w.lane_id = l.id AND w.seq >= l.head_seq LIMIT $5) w
    WHERE l.parked_on = $1 AND l.head_seq IS NOT NULL AND l.priority > $2
    UNION ALL
    SELECT 1 FROM lane l CROSS JOIN LATERAL (
        SELECT h.seq, l.place + row_number() OVER (ORDER BY h.seq) - 1 AS turn
        FROM (SELECT w.seq FROM waiting w WHERE w.lane_id = l.id AND w.seq >= l.head_seq
              ORDER BY w.seq LIMIT least($5, $3 - l.place + 1)) h
    ) w
    WHERE l.parked_on = $1 AND l.head_seq IS NOT NULL AND l.priority = $2 AND l.place <= $3 AND (w.turn, w.seq) < ($3, $4)
    LIMIT $5) s
