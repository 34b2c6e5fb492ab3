-- Keys that owe an admission, and pools with waiters and room (workers come and finish without touching a key).
SELECT id FROM queue WHERE owed
UNION
SELECT id FROM queue WHERE scope = 'pool' AND gated AND NOT paused AND pool_window(name) > 0
