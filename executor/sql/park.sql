INSERT INTO poison_message (queue, reason, detail, content_type, body)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
