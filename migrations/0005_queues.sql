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
            SELECT f.execution_id, old.id FROM in_flight f JOIN execution e ON e.id BETWEEN f.execution_id AND f.execution_id
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

-- Lanes that nobody used for p_idle, and keys that no lane has and no person set. Acceptance holds the rows of its lanes and
-- keys until it commits (FOR KEY SHARE), and does the flush again when one of them has gone: so what is locked here and
-- then found unused stays unused.
CREATE FUNCTION forget_idle(p_idle interval, OUT lanes int, OUT keys int) LANGUAGE plpgsql
SET enable_seqscan = on SET enable_hashjoin = on SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    used bigint[];
    old bigint[];
    unused int[];
BEGIN
    SELECT coalesce(array_agg(DISTINCT e.lane_id), '{}') INTO used FROM execution e
    JOIN (SELECT execution_id FROM in_flight UNION SELECT execution_id FROM timer UNION SELECT execution_id FROM slot) o
      ON o.execution_id = e.id
    WHERE e.lane_id IS NOT NULL;
    UPDATE lane l SET idle_since = CASE WHEN l.head_seq IS NULL AND NOT l.id = ANY(used) THEN now() END
    WHERE (l.idle_since IS NULL) = (l.head_seq IS NULL AND NOT l.id = ANY(used));

    old := ARRAY(SELECT id FROM lane WHERE idle_since <= now() - p_idle ORDER BY id FOR UPDATE SKIP LOCKED);
    -- Statements of their own, so that they see whom the locks let through before.
    DELETE FROM lane l WHERE l.id = ANY(old) AND l.head_seq IS NULL AND NOT EXISTS (
        SELECT 1 FROM (SELECT execution_id FROM in_flight UNION SELECT execution_id FROM timer UNION SELECT execution_id FROM slot) o
        JOIN execution e ON e.id = o.execution_id WHERE e.lane_id = l.id);
    GET DIAGNOSTICS lanes = ROW_COUNT;

    unused := ARRAY(
        SELECT q.id FROM queue q
        WHERE q.scope <> 'pool' AND q.name NOT LIKE 'action:%' AND NOT q.kept AND q.created_at <= now() - p_idle
          AND q.active = 0 AND q.waiting = 0 AND NOT EXISTS (SELECT 1 FROM lane l WHERE q.id = ANY(l.keys))
        ORDER BY q.id FOR UPDATE SKIP LOCKED);
    DELETE FROM queue q WHERE q.id = ANY(unused) AND q.active = 0 AND q.waiting = 0 AND NOT q.kept
        AND NOT EXISTS (SELECT 1 FROM lane l WHERE q.id = ANY(l.keys));
    GET DIAGNOSTICS keys = ROW_COUNT;
    DELETE FROM queue_minute m WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = m.key_id);
END $$;

-- What is older than any percentile asks for becomes one row per event and bucket: the totals of all time.
CREATE FUNCTION fold_minutes(p_older interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM queue_minute WHERE minute < now() - p_older AND minute > '-infinity' RETURNING *
    )
    INSERT INTO queue_minute AS m (key_id, minute, event, bucket, n)
    SELECT key_id, '-infinity', event, bucket, sum(n) FROM gone GROUP BY key_id, event, bucket
    ON CONFLICT ON CONSTRAINT queue_minute_pkey DO UPDATE SET n = m.n + excluded.n;
END $$;
