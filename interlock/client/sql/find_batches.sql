-- Batches whose id lies between $1 and $2 (it begins so) or looks like $3 (it ends so). Executions are not asked: the
-- partitions of a batch begin like it.
SELECT execution_id AS id FROM batch
WHERE execution_id BETWEEN $1 AND $2 OR execution_id::text LIKE $3
ORDER BY 1 DESC LIMIT $4
