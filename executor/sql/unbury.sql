DELETE FROM cancel_tombstone WHERE execution_id = ANY($1) OR expires_at < now()
