-- What was said to have ended: where it stands as this statement begins, and in the same round trip release and admit, which
-- believe the rows alone. The lanes of a flush are few: each is looked at once.
WITH stands AS MATERIALIZED (
    SELECT e.id, e.status::text AS status, e.attempt, e.epoch, e.lane_id,
           EXISTS (SELECT 1 FROM slot s WHERE s.execution_id = e.id) AS holds
    FROM unnest($1::uuid[]) u JOIN execution e ON e.id BETWEEN u AND u
), limited AS MATERIALIZED (
    SELECT l.id FROM (SELECT DISTINCT lane_id FROM stands) d JOIN lane l ON l.id = d.lane_id
    WHERE EXISTS (SELECT 1 FROM queue q WHERE q.id = ANY(l.keys) AND q.gated AND q.scope <> 'pool')
)
SELECT ARRAY(SELECT ROW(s.id, s.status, s.attempt, s.epoch, s.holds,
                        s.holds OR coalesce(s.lane_id = ANY(ARRAY(SELECT id FROM limited)), false)) FROM stands s) AS stands,
       a.messages, a.more, a.admitted, a.released, a.decided
FROM admit($1, '{}', '{}', '{}', '{}', '', '{}', $2, $3) a
