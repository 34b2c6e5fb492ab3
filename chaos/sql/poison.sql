-- What was put aside since this one.
SELECT id, reason, detail, body FROM poison_message WHERE id > $1 ORDER BY id
