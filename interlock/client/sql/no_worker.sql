-- Pools that have waiters and no live worker.
SELECT name AS subject, format('%s wait', waiting) AS detail, count(*) OVER () AS total
FROM queue WHERE scope = 'pool' AND waiting > 0 AND live_workers(name) = 0
ORDER BY 1 LIMIT 20
