-- By how many an action was ever above the limit $2: admissions and ends in the order in which they were written. An
-- admission reads the committed end that made room for it, so its position comes after that end's.
SELECT greatest(0, coalesce(max(held), 0) - $2)::int AS over
FROM (
    SELECT sum(step) OVER (ORDER BY position) AS held
    FROM (
        SELECT t.position, CASE
            WHEN t.target = 'scheduled' THEN 1
            WHEN t.source IN ('scheduled', 'running', 'cancelling')
                 AND (t.target = 'requested' OR is_terminal(t.target)) THEN -1
            ELSE 0 END AS step
        FROM execution_transition t JOIN execution e ON e.id = t.execution_id
        WHERE e.action = $1
    ) s
) h
