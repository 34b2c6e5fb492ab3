-- What pool $1 was sent and no worker took yet, oldest first.
SELECT execution_id, attempt FROM in_flight WHERE pool = $1 AND worker_id IS NULL ORDER BY since, execution_id LIMIT $2
