-- Moves that do not begin where the one before ended.
SELECT t.execution_id::text AS subject, count(*) OVER () AS total,
       format('move %s begins at %s, the one before ended at %s', t.move, coalesce(t.source::text, 'nothing'), b.target) AS detail
FROM execution_transition b JOIN execution_transition t ON t.execution_id = b.execution_id AND t.move = b.move + 1
WHERE t.source IS DISTINCT FROM b.target
ORDER BY 1 LIMIT 20
