-- A cancel that came before its request: acceptance honours it for an hour.
INSERT INTO cancel_tombstone (execution_id, reason, actor, expires_at)
SELECT id, $2, $3, now() + interval '1 hour' FROM unnest($1::uuid[]) u(id)
WHERE NOT EXISTS (SELECT 1 FROM execution e WHERE e.id = u.id)
ORDER BY id
ON CONFLICT (execution_id) DO NOTHING
