-- A few that run: which attempt, and where.
SELECT execution_id::text AS id, attempt, worker_id::text AS worker FROM in_flight WHERE worker_id IS NOT NULL LIMIT 10
