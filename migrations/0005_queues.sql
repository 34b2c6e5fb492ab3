-- Why: keys are changed by people while work runs, and what nobody uses any more is forgotten.
-- min_daemon: 0.1.0

-- A key, changed in place. p_changes: columns of `queue` by name, those left out stay. What is in flight gets its slots
-- under the key's lock, so that a first limit counts it; lowering drains; raising and removing owe the waiters an admission,
-- which the caller starts.
CREATE FUNCTION set_queue(p_scope text, p_name text, p_changes jsonb) RETURNS int LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    old queue;
    new queue;
    filled int := 0;
BEGIN
    INSERT INTO queue (scope, name) VALUES (p_scope, p_name) ON CONFLICT DO NOTHING;
    -- The one lock that excludes acceptances which found the key open (they hold it FOR KEY SHARE).
    SELECT * INTO old FROM queue WHERE scope = p_scope AND name = p_name FOR UPDATE;
    new := jsonb_populate_record(old, p_changes);
    IF new IS NOT DISTINCT FROM old THEN
        RETURN old.id;
    END IF;
    IF p_scope = 'leaf' THEN
        WITH put AS (
            INSERT INTO slot (execution_id, key_id)
            SELECT f.execution_id, old.id FROM in_flight f JOIN execution e ON e.id = f.execution_id
            JOIN lane l ON l.id = e.lane_id
            WHERE old.id = ANY(l.keys) AND e.status IN ('scheduled', 'running', 'cancelling')
            ON CONFLICT DO NOTHING RETURNING 1
        ) SELECT count(*) INTO filled FROM put;
    END IF;
    UPDATE queue q
    SET lim = new.lim, paused = new.paused, cap = new.cap, cap_policy = new.cap_policy, rate_every = new.rate_every,
        rate_burst = new.rate_burst, template = new.template, kept = new.kept, active = q.active + filled, gated = true,
        limited_at = CASE WHEN new.lim IS DISTINCT FROM old.lim THEN clock_timestamp() ELSE q.limited_at END,
        tat = CASE WHEN new.rate_every IS DISTINCT FROM old.rate_every THEN NULL ELSE q.tat END,
        owed = EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = q.id AND l.head_seq IS NOT NULL)
    WHERE q.id = old.id;
    RETURN old.id;
END $$;
