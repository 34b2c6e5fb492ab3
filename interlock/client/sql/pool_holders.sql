-- Whether pool $1 is paused, and how many are in flight there.
SELECT paused, (SELECT count(*) FROM in_flight WHERE pool = $1)::int AS active FROM queue WHERE scope = 'pool' AND name = $1
