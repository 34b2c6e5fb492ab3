-- How many of those that wait for key $1 go before the one of priority $2 and number $3, counted up to $4. The lanes of one
-- key are merged by priority, then number. Lane by lane, so that counting ends where the limit is.
SELECT count(*)::int FROM (
    SELECT 1 FROM lane l CROSS JOIN LATERAL (
        SELECT 1 FROM waiting w WHERE w.lane_id = l.id AND w.seq >= l.head_seq LIMIT $4) w
    WHERE l.parked_on = $1 AND l.head_seq IS NOT NULL AND l.priority > $2
    UNION ALL
    SELECT 1 FROM lane l CROSS JOIN LATERAL (
        SELECT 1 FROM waiting w WHERE w.lane_id = l.id AND w.seq >= l.head_seq AND w.seq < $3 LIMIT $4) w
    WHERE l.parked_on = $1 AND l.head_seq IS NOT NULL AND l.priority = $2 AND l.place < $3
    LIMIT $4) s
