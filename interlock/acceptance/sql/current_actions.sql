-- The newest version of each named action, and whether it was withdrawn.
SELECT DISTINCT ON (name) name, version, withdrawn_at IS NOT NULL AS withdrawn
FROM action WHERE name = ANY($1) ORDER BY name, version DESC
