-- Messages that are about to be sent again: of two who want to, the second finds them marked.
SELECT id, queue, body, replayed_at FROM poison_message WHERE id = ANY($1) ORDER BY id FOR UPDATE
