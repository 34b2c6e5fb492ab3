-- Rows that have ended without a terminal last move, and open rows with one.
SELECT e.id::text AS subject, format('is %s, its last move is to %s', e.status, coalesce(t.target::text, 'nothing')) AS detail,
       count(*) OVER () AS total
FROM execution e LEFT JOIN execution_transition t ON t.execution_id = e.id AND t.move = e.moves
WHERE is_terminal(e.status) IS DISTINCT FROM is_terminal(t.target)
ORDER BY 1 LIMIT 20
