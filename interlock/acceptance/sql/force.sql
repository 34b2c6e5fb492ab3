-- Take the grace from what is being cancelled, once: its worker is told, and the answer to its next renewal says it again. The
-- admission before it has locked these executions. Zero rows: it has ended, or somebody else was quicker.
WITH forced AS (
    UPDATE in_flight f SET forced = true FROM execution e
    WHERE f.execution_id = ANY($1) AND e.id BETWEEN f.execution_id AND f.execution_id AND e.status = 'cancelling' AND f.worker_id IS NOT NULL
      AND NOT f.forced
    RETURNING e.id, e.epoch, e.moves, e.attempt, f.worker_id
), told AS (
    INSERT INTO outbox (role, exchange, routing_key, events, body)
    SELECT 'executor', 'control', worker_id::text, 1,
           cloud_event('execution.cancel', id || '/' || epoch || '/' || moves || '/forced', $2, id,
                       '{"id":"' || id || '","attempt":' || attempt || ',"force":true}')
    FROM forced
)
SELECT id FROM forced
