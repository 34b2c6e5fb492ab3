-- A result that came too late moves nothing; it is kept with its attempt, where that is not remembered otherwise.
INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, error_class, error_text, fingerprint, exit_code,
                               started_at)
SELECT id, attempt, 'late', $1, error_class, error_text, fingerprint, exit_code, started_at
FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::int[], $8::timestamptz[])
     t(id, attempt, error_class, error_text, fingerprint, exit_code, started_at)
ON CONFLICT (execution_id, attempt) DO NOTHING
