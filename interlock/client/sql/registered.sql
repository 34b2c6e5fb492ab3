-- The newest version of every action.
SELECT DISTINCT ON (name) name, version, checksum, definition::text AS definition, withdrawn_at IS NOT NULL AS withdrawn
FROM action ORDER BY name, version DESC
