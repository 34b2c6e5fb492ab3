-- The outcome, from the attempt that holds the fence. A cancel that came first turns a retry into the cancel's end; work
-- that finished before it was told stays what it is. A late result moves nothing and is kept with its attempt.
WITH told AS (
    SELECT * FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                         $10::text[], $11::int[], $12::float8[], $13::timestamptz[])
        t(id, attempt, target, outcome, result, error, error_class, error_text, fingerprint, exit_code, delay, started_at)
), held AS (
    SELECT e.id, e.status AS source FROM execution e WHERE e.id = ANY($2) ORDER BY e.id FOR UPDATE
), wanted AS (
    SELECT t.*, h.source, e.cancel_reason, CASE
        WHEN h.source = 'cancelling' AND t.target IN ('requested', 'cancelled')
        THEN CASE e.cancel_reason WHEN 'timed_out' THEN 'timed_out' ELSE 'cancelled' END
        ELSE t.target END::status AS goal
    FROM told t JOIN held h ON h.id = t.id JOIN execution e ON e.id = t.id
), moved AS (
    UPDATE execution e
    SET status = w.goal, moves = e.moves + 1, result = w.result::jsonb, error = w.error::jsonb,
        failures = e.failures + (w.outcome <> 'handed_back' AND w.goal NOT IN ('completed', 'partial', 'skipped', 'cancelled'))::int,
        worker_id = CASE WHEN w.goal = 'requested' THEN NULL ELSE e.worker_id END,
        not_before = CASE WHEN w.goal = 'requested' THEN now() + w.delay * interval '1 second' END,
        finished_at = CASE WHEN w.goal <> 'requested' THEN now() END
    FROM wanted w
    WHERE e.id = w.id AND e.attempt = w.attempt AND e.worker_id = $1 AND e.status = w.source
      AND ((w.source = 'running' AND w.goal IN ('completed', 'partial', 'failed', 'timed_out', 'skipped', 'requested'))
        OR (w.source = 'cancelling' AND is_terminal(w.goal)))
    RETURNING e.id, e.epoch, e.moves, w.source, e.status, e.attempt, e.action, e.parent_id, e.pool, w.outcome, e.not_before
), kept AS (
    INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, error_class, error_text, fingerprint, exit_code,
                                   started_at)
    SELECT t.id, t.attempt, CASE WHEN m.id IS NULL THEN 'late' WHEN is_terminal(m.status) THEN m.status::text ELSE t.outcome END,
           $1, t.error_class, t.error_text, t.fingerprint, t.exit_code, t.started_at
    FROM told t LEFT JOIN moved m ON m.id = t.id
    ON CONFLICT (execution_id, attempt) DO NOTHING
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, source, status, attempt, action, parent_id, pool, NULL, NULL,
                                  CASE WHEN status = 'requested' THEN outcome END, not_before, $1)::move), 'worker', $14) AS messages,
       coalesce(array_agg(id), '{}') AS moved
FROM moved
