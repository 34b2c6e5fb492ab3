-- All keys of this transaction at once, in the order of ids.
SELECT id, name, paused FROM queue WHERE scope = 'leaf' AND name = ANY($1) ORDER BY id FOR UPDATE
