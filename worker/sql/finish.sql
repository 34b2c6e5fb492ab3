-- The outcome, from the attempt that holds the fence. A cancel that came first turns a retry into the cancel's end, and a
-- retry that would begin after the deadline is none: it ends at once as it is. Work that finished before it was told stays
-- what it is. Zero rows is a late result (see keep_late). Only what is being cancelled has a cancel_reason before its end,
-- which is how RETURNING knows where a row came from. The ids come sorted, and the index is walked in their order, so rows
-- are locked in the order of ids.
WITH moved AS (
    UPDATE execution e
    SET status = CASE
            WHEN goes_on(e, t.target, t.outcome, t.delay) THEN 'requested'::status
            WHEN e.status = 'cancelling' AND t.target IN ('requested', 'cancelled')
            THEN CASE WHEN e.cancel_reason LIKE 'timed_out%' THEN 'timed_out'::status ELSE 'cancelled' END
            WHEN t.target = 'requested' THEN t.outcome::status
            ELSE t.target::status END,
        moves = e.moves + 1, result = t.result::jsonb,
        error = CASE WHEN t.error IS NULL AND e.cancel_reason LIKE 'timed_out%' AND t.target IN ('requested', 'cancelled')
                     THEN jsonb_build_object('class', 'timed_out', 'message', e.cancel_reason) ELSE t.error::jsonb END,
        failures = e.failures + (t.outcome IN ('failed', 'timed_out'))::int,
        worker_id = CASE WHEN NOT goes_on(e, t.target, t.outcome, t.delay) THEN e.worker_id END,
        not_before = CASE WHEN goes_on(e, t.target, t.outcome, t.delay) THEN now() + t.delay * interval '1 second' END,
        finished_at = CASE WHEN NOT goes_on(e, t.target, t.outcome, t.delay) THEN now() END
    FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                $11::int[], $12::float8[], $13::timestamptz[])
         t(id, attempt, target, outcome, result, error, error_class, error_text, fingerprint, exit_code, delay, started_at)
    WHERE e.id BETWEEN t.id AND t.id AND e.attempt = t.attempt AND e.worker_id = $1
      AND (e.status = 'cancelling'
        OR e.status = 'running' AND t.target IN ('completed', 'partial', 'failed', 'timed_out', 'skipped', 'requested'))
    RETURNING e.id, e.epoch, e.moves, CASE WHEN e.cancel_reason IS NULL THEN 'running' ELSE 'cancelling' END AS source,
              e.status, e.attempt, e.action, e.parent_id, e.pool, e.not_before, t.outcome, t.error_class, t.error_text,
              t.fingerprint, t.exit_code, t.started_at, t.target
), kept AS (
    INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, error_class, error_text, fingerprint, exit_code,
                                   started_at)
    SELECT id, attempt, CASE WHEN is_terminal(status) THEN status::text ELSE outcome END, $1, error_class, error_text,
           fingerprint, exit_code, started_at
    FROM moved
    ON CONFLICT (execution_id, attempt) DO NOTHING
), told AS (
    SELECT array_agg(ROW(id, epoch, moves, source, status, attempt, action, parent_id, pool, NULL, NULL,
                         CASE WHEN status = 'requested' THEN outcome
                              WHEN source = 'running' AND target = 'requested'
                              THEN outcome || ', and a retry would begin after the deadline' END,
                         not_before, $1)::move) AS moves,
           coalesce(array_agg(id), '{}') AS moved, coalesce(array_agg(status::text), '{}') AS stands
    FROM moved
)
SELECT record_moves(moves, 'worker', $14) AS messages, moved, stands, count_ends(moves) FROM told
