-- Histories whose numbers are not 1 to `moves`, and histories of nothing.
SELECT coalesce(e.id, t.execution_id)::text AS subject, count(*) OVER () AS total,
       format('moves is %s, history has %s, numbered %s to %s', e.moves, coalesce(t.n, 0), t.first, t.last) AS detail
FROM execution e FULL JOIN (
    SELECT execution_id, count(*) AS n, min(move) AS first, max(move) AS last FROM execution_transition GROUP BY execution_id
) t ON t.execution_id = e.id
WHERE e.id IS NULL OR t.execution_id IS NULL OR t.first <> 1 OR t.last <> e.moves OR t.n <> e.moves
ORDER BY 1 LIMIT 20
