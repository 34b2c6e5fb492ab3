-- Timers that did their work, or whose execution moved on. One that waits for a paused row stays.
DELETE FROM timer t USING unnest($1::uuid[], $2::text[]) u(id, kind), execution e
WHERE t.execution_id BETWEEN u.id AND u.id AND t.kind = u.kind AND t.due <= now() AND e.id BETWEEN u.id AND u.id
  AND (t.kind <> 'enter' OR e.status <> 'requested' OR e.seq IS NOT NULL)
