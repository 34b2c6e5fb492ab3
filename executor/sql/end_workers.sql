-- Incarnations whose lease has ended and that hold nothing any more.
UPDATE worker w SET ended_at = now()
WHERE w.ended_at IS NULL AND w.lease_expires_at < now()
  AND NOT EXISTS (SELECT 1 FROM in_flight f WHERE f.worker_id = w.id)
RETURNING w.id, w.host, w.pid
