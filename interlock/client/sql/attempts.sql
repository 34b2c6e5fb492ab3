-- The attempts of one execution that ended, in order.
SELECT attempt, outcome, worker_id, error_class, error_text, exit_code, started_at, finished_at
FROM execution_attempt WHERE execution_id = $1 ORDER BY attempt
