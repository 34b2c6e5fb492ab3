-- The place of number $2 in lane $1, from 1, counted up to $3.
SELECT count(*)::int FROM (
    SELECT 1 FROM lane l JOIN waiting w ON w.lane_id = l.id AND w.seq >= l.head_seq AND w.seq <= $2
    WHERE l.id = $1 LIMIT $3) s
