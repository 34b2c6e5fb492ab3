-- What may be asked for, to suggest the nearest name to who misspelled one.
SELECT DISTINCT name FROM action a
WHERE NOT EXISTS (SELECT 1 FROM action n WHERE n.name = a.name AND n.withdrawn_at IS NOT NULL AND n.version >= a.version)
UNION
SELECT DISTINCT name FROM batch_definition b
WHERE NOT EXISTS (SELECT 1 FROM batch_definition n WHERE n.name = b.name AND n.withdrawn_at IS NOT NULL AND n.version >= b.version)
ORDER BY name
