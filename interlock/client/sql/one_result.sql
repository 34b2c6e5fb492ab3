-- Leaves with more than one attempt whose result was taken. Refused results are remembered as late.
SELECT execution_id::text AS subject, format('attempts %s each brought a result', string_agg(attempt::text, ', ' ORDER BY attempt)) AS detail,
       count(*) OVER () AS total
FROM execution_attempt WHERE outcome IN ('completed', 'partial', 'skipped')
GROUP BY execution_id HAVING count(*) > 1
ORDER BY 1 LIMIT 20
