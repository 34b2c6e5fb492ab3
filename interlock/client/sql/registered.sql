-- The newest version of every action, as far as a comparison needs it.
SELECT DISTINCT ON (name) name, version, checksum, (definition ->> 'limit')::int AS "limit",
       withdrawn_at IS NOT NULL AS withdrawn
FROM action ORDER BY name, version DESC
