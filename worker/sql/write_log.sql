INSERT INTO execution_log (execution_id, attempt, number, stream, line, at)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[], $6::timestamptz[])
ON CONFLICT DO NOTHING
