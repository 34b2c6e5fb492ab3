-- Moves that the table of transitions ($1 sources, $2 targets, $3 owners, $4 subjects) does not know.
SELECT t.execution_id::text AS subject, count(*) OVER () AS total,
       format('move %s: %s to %s by %s', t.move, coalesce(t.source::text, 'nothing'), t.target, t.actor) AS detail
FROM execution_transition t LEFT JOIN execution p ON p.id = t.execution_id AND p.kind <> 'action'
LEFT JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) legal(source, target, owner, subject)
  ON legal.source = coalesce(t.source::text, '') AND legal.target = t.target::text
 AND legal.owner = CASE split_part(t.actor, '/', 2) WHEN 'client' THEN 'executor' ELSE split_part(t.actor, '/', 2) END
 AND legal.subject = CASE WHEN p.id IS NULL THEN 'leaf' ELSE 'parent' END
WHERE legal.target IS NULL
ORDER BY 1 LIMIT 20
