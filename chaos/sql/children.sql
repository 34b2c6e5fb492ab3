-- What these batches made: partitions and plannings with their keys, and the callbacks, which are no children and have none.
SELECT e.id, e.parent_id AS batch, e.child_key AS key, e.epoch, e.superseded_by IS NOT NULL AS superseded
FROM unnest($1::uuid[]) b JOIN execution e ON e.parent_id = b
UNION ALL
SELECT e.id, b AS batch, NULL AS key, e.epoch, false AS superseded
FROM unnest($1::uuid[]) b JOIN execution e ON e.tags = jsonb_build_array('batch:' || b)
ORDER BY 2, 1
