-- The lines of one execution behind (attempt $2, number $3), in order.
SELECT attempt, number, stream, line, at
FROM execution_log WHERE execution_id = $1 AND (attempt, number) > ($2, $3) ORDER BY attempt, number LIMIT $4
