-- A page of what the restart of a batch makes again, in the order of ids. Key null: looked at and not of it, which is how the
-- caller knows where to go on. Nothing but the range cuts the page, so that the index alone ends it: a condition that seems rare
-- would make the planner read and sort all that is left of a million.
SELECT e.id, CASE WHEN e.parent_id = $1 AND e.superseded_by = child_id($1, b.epoch, e.child_key) THEN e.child_key END AS key,
       e.params::text AS params
FROM (SELECT x.* FROM execution x WHERE x.id > greatest($2, first_child($1)) AND x.id <= last_child($1) ORDER BY x.id LIMIT $3) e
JOIN batch b ON b.execution_id = $1
ORDER BY e.id
