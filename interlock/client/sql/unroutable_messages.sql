-- Messages that the broker could not route to any queue.
SELECT role || ' ' || exchange || '/' || routing_key AS subject, format('%s (%s tries)', error, tries) AS detail,
       count(*) OVER () AS total
FROM outbox WHERE error IS NOT NULL
ORDER BY id LIMIT 20
