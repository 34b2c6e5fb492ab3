-- Rows whose status is not where their last move led.
SELECT e.id::text AS subject, format('is %s, its last move led to %s', e.status, t.target) AS detail, count(*) OVER () AS total
FROM execution e JOIN execution_transition t ON t.execution_id = e.id AND t.move = e.moves
WHERE e.status <> t.target
ORDER BY 1 LIMIT 20
