-- Those of the keys $2 that no present partition of a batch has.
SELECT k AS key FROM unnest($2::text[]) k
WHERE NOT EXISTS (SELECT 1 FROM chosen_partitions($1, NULL, ARRAY[k], NULL))
ORDER BY 1
