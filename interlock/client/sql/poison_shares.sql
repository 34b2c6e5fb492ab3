-- How many messages of each queue were put aside for which reason, and the last of them.
SELECT queue, reason, count(*) AS messages, max(id) AS last FROM poison_message
WHERE ($1::text IS NULL OR queue = $1 OR right(queue, length($1) + 1) = '.' || $1) AND ($2::text IS NULL OR reason = $2)
  AND received_at <= now() - $3 * interval '1 second' AND ($4 OR replayed_at IS NULL)
GROUP BY queue, reason ORDER BY queue, reason
