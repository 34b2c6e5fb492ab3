-- Keys of executions, by name. $1: only these, null for all; $2: also those that bound nothing and that nobody has.
SELECT id, scope, name, lim, rate_every, rate_burst, cap, cap_policy, paused, template, active, waiting, wake_at
FROM queue
WHERE scope <> 'pool' AND ($1::text[] IS NULL OR name = ANY($1))
  AND ($2 OR lim IS NOT NULL OR rate_every IS NOT NULL OR cap IS NOT NULL OR paused OR active > 0 OR waiting > 0)
ORDER BY scope, name
