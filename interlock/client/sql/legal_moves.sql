-- Moves that the table of transitions ($1 sources, $2 targets, $3 owners, $4 subjects) does not know. Kinds of moves are
-- judged, not moves: there are few of them, however long the history.
WITH kind AS (
    SELECT t.source, t.target, t.actor, p.id IS NOT NULL AS parent
    FROM execution_transition t LEFT JOIN execution p ON p.id = t.execution_id AND p.kind <> 'action'
    GROUP BY t.source, t.target, t.actor, p.id IS NOT NULL
), illegal AS (
    SELECT k.* FROM kind k LEFT JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) legal(source, target, owner, subject)
      ON legal.source = coalesce(k.source::text, '') AND legal.target = k.target::text
     AND legal.owner = CASE WHEN split_part(k.actor, '/', 2) IN ('client', 'plan') THEN 'executor'
                            ELSE split_part(k.actor, '/', 2) END
     AND legal.subject = CASE WHEN k.parent THEN 'parent' ELSE 'leaf' END
    WHERE legal.target IS NULL
)
SELECT t.execution_id::text AS subject, count(*) OVER () AS total,
       format('move %s: %s to %s by %s', t.move, coalesce(t.source::text, 'nothing'), t.target, t.actor) AS detail
FROM illegal i JOIN execution_transition t
  ON t.target = i.target AND t.actor = i.actor AND t.source IS NOT DISTINCT FROM i.source
LEFT JOIN execution p ON p.id = t.execution_id AND p.kind <> 'action'
WHERE (p.id IS NOT NULL) = i.parent
ORDER BY 1 LIMIT 20
