-- Children of a batch that have not ended, at most $2: those that wait in a lane or for a time, and those in flight. What is
-- told to stop already is not told again; with $3, what runs may finish.
SELECT id, plan FROM (
    (SELECT w.execution_id AS id, false AS plan FROM batch_lane l JOIN waiting w ON w.lane_id = l.lane_id
     WHERE l.execution_id = $1 LIMIT $2)
    UNION ALL
    (SELECT t.execution_id, e.child_key = '$plan' FROM timer t JOIN execution e ON e.id = t.execution_id
     WHERE t.execution_id BETWEEN first_child($1) AND last_child($1) AND t.kind = 'enter' AND e.parent_id = $1
       AND e.status = 'requested' LIMIT $2)
    UNION ALL
    (SELECT f.execution_id, e.child_key = '$plan' FROM in_flight f JOIN execution e ON e.id = f.execution_id
     WHERE f.execution_id BETWEEN first_child($1) AND last_child($1) AND e.parent_id = $1
       AND (e.status = 'scheduled' OR e.status = 'running' AND (NOT $3 OR e.child_key = '$plan')) LIMIT $2)
    UNION ALL
    (SELECT e.id, true FROM execution b JOIN execution e ON e.id = child_id(b.id, b.epoch, '$plan')
     WHERE b.id = $1 AND e.status = 'requested')
) open LIMIT $2
