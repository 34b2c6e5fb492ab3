-- A cancel of this batch lets what runs finish.
UPDATE batch SET drains = true WHERE execution_id = $1 AND ended_at IS NULL AND NOT drains
