-- A partition that waits, or the planning: what holds a batch in which nothing runs.
SELECT id FROM (
    (SELECT w.execution_id AS id FROM batch_lane l JOIN waiting w ON w.lane_id = l.lane_id WHERE l.execution_id = $1
     ORDER BY w.seq LIMIT 1)
    UNION ALL
    (SELECT t.execution_id FROM timer t JOIN execution e ON e.id = t.execution_id
     WHERE t.execution_id BETWEEN first_child($1) AND last_child($1) AND t.kind = 'enter' AND e.parent_id = $1
     ORDER BY t.due LIMIT 1)
    UNION ALL
    (SELECT p.id FROM execution e JOIN execution p ON p.id = child_id(e.id, e.epoch, '$plan')
     WHERE e.id = $1 AND NOT is_terminal(p.status))
) o LIMIT 1
