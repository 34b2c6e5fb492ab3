-- Writes of what already stood there.
SELECT execution_id::text AS subject, format('move %s: %s to %s', move, source, target) AS detail, count(*) OVER () AS total
FROM execution_transition WHERE source = target
ORDER BY 1 LIMIT 20
