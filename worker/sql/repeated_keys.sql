-- Of these partitions of a plan, the first that exists already.
SELECT child_key FROM execution WHERE id = ANY($1) ORDER BY id LIMIT 1
