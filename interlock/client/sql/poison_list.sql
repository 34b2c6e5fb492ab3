-- Messages that were put aside, without their bodies, newest first. A null filter lets everything pass.
SELECT id, queue, reason, detail, content_type, octet_length(body) AS size, received_at, replayed_at FROM poison_message
WHERE ($1::text IS NULL OR queue = $1 OR right(queue, length($1) + 1) = '.' || $1) AND ($2::text IS NULL OR reason = $2)
  AND received_at <= now() - $3 * interval '1 second' AND ($4 OR replayed_at IS NULL)
  AND ($5::bigint IS NULL OR id < $5)
ORDER BY id DESC LIMIT $6
