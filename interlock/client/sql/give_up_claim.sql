-- We cannot publish: whoever relays need not wait for our claim on these messages to end, and is told once we have committed.
WITH given_up AS (UPDATE outbox SET claimed_until = NULL WHERE id = ANY($1))
SELECT pg_notify('interlock_outbox', '')
