-- Moves behind a terminal one of the same epoch.
SELECT t.execution_id::text AS subject, format('move %s: %s after %s (move %s)', t.move, t.target, b.target, b.move) AS detail,
       count(*) OVER () AS total
FROM execution_transition b JOIN execution_transition t ON t.execution_id = b.execution_id AND t.move = b.move + 1
WHERE is_terminal(b.target) AND t.epoch = b.epoch
ORDER BY 1 LIMIT 20
