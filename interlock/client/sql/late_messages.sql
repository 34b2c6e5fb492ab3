-- Messages that were not published within ten seconds.
SELECT role || ' ' || exchange || '/' || routing_key AS subject, count(*) OVER () AS total,
       format('waits for %s s', extract(epoch FROM now() - created_at)::int) AS detail
FROM outbox WHERE created_at < now() - interval '10 seconds' AND error IS NULL
ORDER BY created_at LIMIT 20
