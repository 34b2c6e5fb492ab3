-- One message that was put aside, whole.
SELECT id, queue, reason, detail, content_type, octet_length(body) AS size, received_at, replayed_at, body
FROM poison_message WHERE id = $1
