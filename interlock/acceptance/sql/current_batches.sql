-- The newest version of each named batch, and whether it was withdrawn.
SELECT DISTINCT ON (name) name, version, definition::text AS definition, withdrawn_at IS NOT NULL AS withdrawn
FROM batch_definition WHERE name = ANY($1) ORDER BY name, version DESC
