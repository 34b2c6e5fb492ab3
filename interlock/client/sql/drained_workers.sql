-- How far the draining of these incarnations has come. An orderly end ends the lease in the same moment; one that was lost
-- ended later than its lease, or nobody has ended it yet.
SELECT w.id, (w.ended_at IS NULL AND w.lease_expires_at > now()) AS lives,
       coalesce(w.lease_expires_at < w.ended_at, w.lease_expires_at <= now()) AS lost,
       (SELECT count(*) FROM in_flight f WHERE f.worker_id = w.id)::int AS running
FROM worker w WHERE w.id = ANY($1)
