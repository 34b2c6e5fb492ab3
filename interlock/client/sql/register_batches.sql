INSERT INTO batch_definition (name, version, definition, checksum)
SELECT name, version, definition::jsonb, checksum
FROM unnest($1::text[], $2::int[], $3::text[], $4::text[]) u(name, version, definition, checksum)
