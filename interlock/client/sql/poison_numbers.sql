-- Messages of a selection up to one and behind another, in order: a cursor.
SELECT id FROM poison_message
WHERE ($1::text IS NULL OR queue = $1 OR right(queue, length($1) + 1) = '.' || $1) AND ($2::text IS NULL OR reason = $2)
  AND received_at <= now() - $3 * interval '1 second' AND ($4 OR replayed_at IS NULL)
  AND id <= $5 AND id > $6
ORDER BY id LIMIT $7
