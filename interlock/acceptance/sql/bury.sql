-- A cancel that came before its request: acceptance honours it for an hour. In the order of ids, so that two callers cannot
-- wait for each other.
INSERT INTO cancel_tombstone (execution_id, reason, actor, expires_at)
SELECT id, reason, $3, now() + interval '1 hour' FROM unnest($1::uuid[], $2::text[]) u(id, reason)
WHERE NOT EXISTS (SELECT 1 FROM execution e WHERE e.id = u.id OFFSET 0)
ORDER BY id
ON CONFLICT (execution_id) DO NOTHING
