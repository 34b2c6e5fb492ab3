-- Throw messages away.
DELETE FROM poison_message WHERE id = ANY($1) RETURNING id
