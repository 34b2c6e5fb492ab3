-- We cannot publish: whoever relays need not wait for our claim on these messages to end.
UPDATE outbox SET claimed_until = NULL WHERE id = ANY($1)
