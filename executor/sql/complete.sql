-- What was said to have ended, and in the same round trip release and admit, which believe the rows alone. Where those stand,
-- as this statement begins, that do not stand as told, or whose slots are to be told of. The lanes of a flush are few: each is
-- looked at once.
WITH stands AS MATERIALIZED (
    SELECT t.n, t.target, t.attempt AS told_attempt, t.epoch AS told_epoch, e.status, e.attempt, e.epoch, e.lane_id,
           EXISTS (SELECT 1 FROM slot s WHERE s.execution_id = t.id) AS holds
    FROM unnest($1::uuid[], $2::text[]::status[], $3::int[], $4::int[]) WITH ORDINALITY t(id, target, attempt, epoch, n)
    LEFT JOIN execution e ON e.id BETWEEN t.id AND t.id
), limited AS MATERIALIZED (
    SELECT l.id FROM (SELECT DISTINCT lane_id FROM stands) d JOIN lane l ON l.id = d.lane_id
    WHERE EXISTS (SELECT 1 FROM queue q WHERE q.id = ANY(l.keys) AND q.gated AND q.scope <> 'pool')
), judged AS (
    SELECT *, holds OR coalesce(lane_id = ANY(ARRAY(SELECT id FROM limited)), false) AS limited FROM stands
)
SELECT ARRAY(SELECT ROW(n::int, status::text, attempt, epoch, holds, limited) FROM judged
             WHERE limited OR (status, attempt, epoch) IS DISTINCT FROM (target, told_attempt, told_epoch)
                OR NOT is_terminal(status)) AS elsewhere,
       a.messages, a.more, a.admitted, a.released, a.decided
FROM admit($1, '{}', '{}', '{}', '{}', '', '{}', $5, $6) a
