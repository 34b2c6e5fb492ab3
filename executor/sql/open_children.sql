-- Children of a batch that have not ended, at most $2: those that wait in a lane or for a time, and those in flight. What is
-- told to stop already is not told again; with $3, what runs may finish. `OFFSET 0` keeps each look at a row where it is: a
-- plan that was made on small tables, and is kept, would go through all of them once for each child instead.
SELECT id, plan FROM (
    (SELECT w.execution_id AS id, false AS plan FROM batch_lane l
     CROSS JOIN LATERAL (SELECT i.execution_id FROM waiting i WHERE i.lane_id = l.lane_id OFFSET 0) w
     WHERE l.execution_id = $1 LIMIT $2)
    UNION ALL
    (SELECT t.execution_id, e.child_key = '$plan' FROM timer t
     CROSS JOIN LATERAL (SELECT c.parent_id, c.child_key, c.status FROM execution c WHERE c.id = t.execution_id OFFSET 0) e
     WHERE t.execution_id BETWEEN first_child($1) AND last_child($1) AND t.kind = 'enter' AND e.parent_id = $1
       AND e.status = 'requested' LIMIT $2)
    UNION ALL
    (SELECT f.execution_id, e.child_key = '$plan' FROM in_flight f
     CROSS JOIN LATERAL (SELECT c.parent_id, c.child_key, c.status FROM execution c WHERE c.id = f.execution_id OFFSET 0) e
     WHERE f.execution_id BETWEEN first_child($1) AND last_child($1) AND e.parent_id = $1
       AND (e.status = 'scheduled' OR e.status = 'running' AND (NOT $3 OR e.child_key = '$plan')) LIMIT $2)
    UNION ALL
    (SELECT e.id, true FROM execution b
     CROSS JOIN LATERAL (SELECT c.id, c.status FROM execution c WHERE c.id = child_id(b.id, b.epoch, '$plan') OFFSET 0) e
     WHERE b.id = $1 AND e.status = 'requested')
) open LIMIT $2
