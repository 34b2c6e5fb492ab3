-- What went through each key, by event; of the last hour's admissions also how long they waited (the bucket, else null).
-- $1: only these keys, null for all.
SELECT key_id, event, CASE WHEN event = 'admitted' AND minute > now() - interval '1 hour' THEN bucket END AS bucket,
       sum(n)::bigint AS n
FROM queue_minute WHERE $1::int[] IS NULL OR key_id = ANY($1)
GROUP BY 1, 2, 3
