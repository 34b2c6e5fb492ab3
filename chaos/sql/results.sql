-- Those of these executions of which more than one attempt brought a result.
SELECT count(*) FROM (
    SELECT execution_id FROM execution_attempt
    WHERE execution_id = ANY($1) AND outcome IN ('completed', 'partial', 'skipped')
    GROUP BY execution_id HAVING count(*) > 1) twice
