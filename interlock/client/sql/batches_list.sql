-- The newest version of every registered batch.
SELECT DISTINCT ON (name) name, version, definition::text AS definition, created_at, withdrawn_at
FROM batch_definition ORDER BY name, version DESC
