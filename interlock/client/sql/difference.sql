-- What a plan that was made anew would do to a batch: of each fate how many keys, and the first of them in the order of the
-- plan; of those that stay, how many are made again, and how many have other parameters now.
SELECT f.fate, count(*) AS partitions, (array_agg(f.child_key ORDER BY f.position, f.child_key))[1:$6] AS keys,
       count(*) FILTER (WHERE f.again) AS again,
       (array_agg(f.child_key ORDER BY f.position) FILTER (WHERE f.again))[1:$6] AS again_keys,
       count(*) FILTER (WHERE f.changed) AS changed,
       (array_agg(f.child_key ORDER BY f.position) FILTER (WHERE f.changed))[1:$6] AS changed_keys
FROM replanned($1, $2, $3::text[]::status[], $4, $5) f
GROUP BY 1
