-- One execution with everything of its own that can hold it: its place in flight, its worker's lease, the time at which it
-- enters its lane, and its place there.
SELECT e.id, e.kind, e.action, e.parent_id, e.child_key, e.status::text AS status, e.attempt, e.failures, e.pool, e.worker_id, e.seq, e.lane_id,
       e.cancel_reason, e.error ->> 'message' AS error, e.not_before, e.paused_at, m.at AS moved_at,
       now() AS now, f.execution_id IS NOT NULL AS in_flight, w.lease_expires_at, w.ended_at AS worker_ended_at,
       t.due AS enters_at, n.since AS waits_since, l.priority, l.head_seq, l.parked_on, l.place
FROM execution e
LEFT JOIN execution_transition m ON m.execution_id = e.id AND m.move = e.moves
LEFT JOIN in_flight f ON f.execution_id = e.id
LEFT JOIN worker w ON w.id = e.worker_id
LEFT JOIN timer t ON t.execution_id = e.id AND t.kind = 'enter'
LEFT JOIN waiting n ON n.lane_id = e.lane_id AND n.seq = e.seq
LEFT JOIN lane l ON l.id = n.lane_id
WHERE e.id = $1
