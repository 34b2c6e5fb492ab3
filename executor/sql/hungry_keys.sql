-- Keys that owe an admission, pools with waiters and room (workers come and finish without touching a key), and keys
-- whose rate lets the next go soon.
SELECT id, 0::float8 AS due_in FROM queue WHERE owed
UNION ALL
SELECT id, 0 FROM queue WHERE scope = 'pool' AND gated AND NOT paused AND pool_window(name) > 0
UNION ALL
SELECT id, extract(epoch FROM wake_at - clock_timestamp())::float8 FROM queue
WHERE wake_at < clock_timestamp() + interval '1 second'
