-- Those of the keys $2 that no present partition of a batch has.
SELECT k AS key FROM unnest($2::text[]) k
EXCEPT
SELECT e.child_key FROM chosen_partitions($1, NULL, $2, NULL) c JOIN execution e ON e.id = c
ORDER BY 1
