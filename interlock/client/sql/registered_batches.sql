-- The newest version of every batch.
SELECT DISTINCT ON (name) name, version, checksum, withdrawn_at IS NOT NULL AS withdrawn
FROM batch_definition ORDER BY name, version DESC
