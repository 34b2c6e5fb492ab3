-- Partitions of a batch that its restart has superseded, in the order of ids: what the new epoch plans.
SELECT e.id, e.child_key AS key, e.params::text AS params
FROM execution e JOIN execution p ON p.id = e.parent_id
WHERE e.id > greatest($2, first_child($1)) AND e.id <= last_child($1) AND e.parent_id = $1 AND e.superseded_by = child_id(p.id, p.epoch, e.child_key)
ORDER BY e.id LIMIT $3
