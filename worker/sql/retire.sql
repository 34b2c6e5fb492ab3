-- The orderly end of an incarnation that holds nothing any more.
UPDATE worker SET ended_at = now(), lease_expires_at = least(lease_expires_at, now()) WHERE id = $1 AND ended_at IS NULL
