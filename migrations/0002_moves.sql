-- Why: what every move has in common, once: its history, its place in flight, its timers and its messages.
-- min_daemon: 0.1.0

-- Law 4. Nothing is published that is not committed; nothing committed is left unpublished.

CREATE TYPE move AS (
    id uuid, epoch int, number int, source status, target status, attempt int, action text, parent_id uuid,
    pool text, lane_id bigint, seq bigint, reason text, due timestamptz, worker_id uuid
);
CREATE TYPE message AS (id bigint, exchange text, routing_key text, events int, body text);

CREATE FUNCTION is_terminal(s status) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT s IN ('completed', 'partial', 'failed', 'timed_out', 'cancelled', 'abandoned', 'skipped')
$$;

-- One CloudEvent. The arguments are ids, statuses and numbers of ours, or already JSON: nothing needs escaping. STABLE, as
-- what it concatenates is, or the planner would not inline it.
CREATE FUNCTION cloud_event(type text, event_id text, source text, subject uuid, data text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT '{"specversion":"1.0","type":"' || type || '","id":"' || event_id || '","source":"' || source
           || '","subject":"' || subject || '","datacontenttype":"application/json","data":' || data || '}'
$$;

-- One message, not yet in the outbox: a single event as it is, several as an array.
CREATE TYPE draft AS (role text, exchange text, routing_key text, events int, body text);
CREATE FUNCTION as_message(p_role text, p_exchange text, p_key text, p_events bigint, p_bodies text) RETURNS draft
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ROW(p_role, p_exchange, p_key, p_events, CASE p_events WHEN 1 THEN p_bodies ELSE '[' || p_bodies || ']' END)::draft
$$;

CREATE FUNCTION iso_utc(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- How many executions the window of a pool still takes: twice the live capacity less what is
-- in flight. A hint for dispatch, never a limit: limits are keys.
CREATE FUNCTION pool_window(p_pool text) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT greatest(0, 2 * coalesce(sum(capacity), 0)::int - (SELECT count(*)::int FROM in_flight f WHERE f.pool = p_pool))
    FROM worker WHERE pool = p_pool AND ended_at IS NULL AND NOT draining AND lease_expires_at > now()
$$;

-- How many more a pool's live workers could run now.
CREATE FUNCTION free_places(p_pool text) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(w.capacity), 0)::int
           - (SELECT count(*)::int FROM in_flight f WHERE f.pool = p_pool AND f.worker_id IS NOT NULL)
    FROM worker w WHERE w.pool = p_pool AND w.ended_at IS NULL AND NOT w.draining AND w.lease_expires_at > now()
$$;

CREATE FUNCTION live_workers(p_pool text) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT count(*)::int FROM worker
    WHERE pool = p_pool AND ended_at IS NULL AND NOT draining AND lease_expires_at > now()
$$;

-- Everything that a set of moves entails, in the transaction that made them. Returns the messages of the caller's own
-- role, for publishing after the commit; the sweep publishes what nobody confirmed. Events are put together by concat,
-- which writes each into one buffer, where a chain of || would copy it once per link.
CREATE FUNCTION record_moves(p_moves move[], p_role text, p_actor text) RETURNS message[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    messages message[];
    told draft[] := '{}';
    kinds record;
    finished_at text := iso_utc(now());
    from_us text := '","source":"' || p_actor || '","subject":"';
    data text := '","datacontenttype":"application/json","data":{"id":"';
BEGIN
    IF p_moves IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO execution_transition (execution_id, move, source, target, attempt, epoch, actor, reason, lane_id, seq)
    SELECT id, number, source, target, attempt, epoch, p_actor, reason, lane_id, seq FROM unnest(p_moves);
    -- Most calls are of one kind of move: what they do not entail is not asked for.
    SELECT bool_or(target = 'scheduled') AS dispatched, bool_or(is_terminal(target)) AS ended,
           bool_or(source IS NOT NULL AND target = 'requested') AS returned, bool_or(target = 'cancelling') AS cancelled,
           bool_or(is_terminal(target) OR (source IS NOT NULL AND target <> 'scheduled')) AS changed
    INTO kinds FROM unnest(p_moves);

    IF kinds.dispatched THEN
        INSERT INTO in_flight (execution_id, pool, attempt, parent_id)
        SELECT id, pool, attempt, parent_id FROM unnest(p_moves) WHERE target = 'scheduled';
    END IF;
    DELETE FROM in_flight f USING unnest(p_moves) m
    WHERE f.execution_id BETWEEN m.id AND m.id AND m.source IN ('scheduled', 'running', 'cancelling')
      AND (m.target = 'requested' OR is_terminal(m.target));

    IF EXISTS (SELECT 1 FROM timer) THEN
        DELETE FROM timer t USING unnest(p_moves) m
        WHERE t.execution_id BETWEEN m.id AND m.id AND (is_terminal(m.target) OR (m.source = 'requested' AND t.kind IN ('enter', 'queue'))
                                        OR (m.source = 'running' AND t.kind = 'run'));
    END IF;
    IF kinds.returned THEN
        INSERT INTO timer (execution_id, kind, due)
        SELECT id, 'enter', coalesce(due, now()) FROM unnest(p_moves) WHERE source IS NOT NULL AND target = 'requested'
        ON CONFLICT (execution_id, kind) DO UPDATE SET due = excluded.due;
    END IF;

    IF kinds.changed THEN
        told := told || ARRAY(
            SELECT as_message(p_role, 'status', 'execution.status_changed.' || target || '.' || family, count(*), string_agg(body, ','))
            FROM (SELECT target, CASE WHEN parent_id IS NOT NULL THEN 'child'
                                      WHEN attempt = 0 AND EXISTS (SELECT 1 FROM batch b WHERE b.execution_id = id) THEN 'parent'
                                      ELSE 'leaf' END AS family, (ordinality - 1) / 500 AS part,  -- a message has at most 500 events
                         concat('{"specversion":"1.0","type":"execution.status_changed","id":"', id, '/', epoch, '/', number,
                                from_us, id, data, id, '","attempt":', attempt, ',"epoch":', epoch, ',"from":',
                                coalesce('"' || source || '"', 'null'), ',"to":"', target, '","action":', to_json(action),
                                ',"parent_id":', coalesce('"' || parent_id || '"', 'null'), '}}') AS body
                  FROM unnest(p_moves) WITH ORDINALITY WHERE is_terminal(target) OR (source IS NOT NULL AND target <> 'scheduled')) e
            GROUP BY target, family, part);
    END IF;
    IF kinds.ended THEN
        told := told || ARRAY(
            SELECT as_message('worker', 'completions', 'execution.completed.' || target, count(*), string_agg(body, ','))
            FROM (SELECT target, (ordinality - 1) / 500 AS part,
                         concat('{"specversion":"1.0","type":"execution.completed","id":"', id, '/', epoch, '/completed',
                                from_us, id, data, id, '","action":', to_json(action), ',"status":"', target,
                                '","attempt":', attempt, ',"epoch":', epoch, ',"parent_id":',
                                coalesce('"' || parent_id || '"', 'null'), ',"finished_at":"', finished_at, '"}}') AS body
                  FROM unnest(p_moves) WITH ORDINALITY WHERE is_terminal(target)) e
            GROUP BY target, part);
    END IF;
    IF kinds.ended AND p_role = 'executor' THEN
        -- Only workers publish completions: tell one that some are waiting.
        told := told || as_message('executor', 'relay', 'worker', 1, cloud_event(
            'outbox.waiting', p_moves[1].id || '/relay', p_actor, p_moves[1].id, '{}'));
    END IF;
    IF kinds.dispatched THEN
        -- Split evenly over the live workers, at most 100 ids in a message.
        told := told || ARRAY(
            SELECT as_message('executor', 'dispatch', p.pool, count(*), string_agg(
                       concat('{"specversion":"1.0","type":"execution.scheduled","id":"', s.id, '/', s.epoch, '/', s.number,
                              from_us, s.id, data, s.id, '","attempt":', s.attempt, '}}'), ','))
            FROM (SELECT pool, count(*) AS total, live_workers(pool) AS workers, array_agg(id) AS ids, array_agg(epoch) AS epochs,
                         array_agg(number) AS numbers, array_agg(attempt) AS attempts
                  FROM unnest(p_moves) WHERE target = 'scheduled' GROUP BY pool) p
            CROSS JOIN LATERAL unnest(p.ids, p.epochs, p.numbers, p.attempts) WITH ORDINALITY s(id, epoch, number, attempt, n)
            GROUP BY p.pool, s.n % greatest(ceil(p.total / 100.0)::int, least(p.total, p.workers)));
    END IF;
    IF kinds.cancelled THEN
        told := told || ARRAY(
            SELECT as_message('executor', 'control', worker_id::text, count(*), string_agg(
                       cloud_event('execution.cancel', id || '/' || epoch || '/' || number, p_actor, id,
                                   '{"id":"' || id || '","attempt":' || attempt || '}'), ','))
            FROM unnest(p_moves) WITH ORDINALITY WHERE target = 'cancelling' AND worker_id IS NOT NULL
            GROUP BY worker_id, (ordinality - 1) / 500);
    END IF;

    WITH put AS (
        INSERT INTO outbox (role, exchange, routing_key, events, body, claimed_until)
        SELECT role, exchange, routing_key, events, body, CASE WHEN role = p_role THEN now() + interval '1 second' END
        FROM unnest(told)
        RETURNING outbox.id, outbox.role, outbox.exchange, outbox.routing_key, outbox.events, outbox.body
    )
    SELECT array_agg(ROW(put.id, put.exchange, put.routing_key, put.events, put.body)::message ORDER BY put.id)
    INTO messages FROM put WHERE put.role = p_role;
    RETURN messages;
END $$;

-- Leave messages to the executors' relays, which hear of it when this transaction commits: for whoever cannot publish them, a
-- client or the planning of a batch. Commits that notify wait for one another, so what publishes itself does not do it.
CREATE FUNCTION leave_to_relays(p_ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE outbox o SET claimed_until = NULL FROM unnest(p_ids) u WHERE o.id BETWEEN u AND u;
    PERFORM pg_notify('interlock_outbox', '');
END $$;

-- Whether a parent still runs, in the epoch of its child. Not inlined: it is asked of children only.
CREATE FUNCTION parent_runs(p_parent uuid, p_epoch int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM execution p WHERE p.id = p_parent AND p.epoch = p_epoch AND p.status = 'running')
$$;

-- The one predicate of what may be handed out. The claim by message and the claim from the table share it: what ended,
-- is cancelled, paused or not admitted is never claimable, nor is a child whose parent no longer runs. Inlined by the planner.
CREATE FUNCTION is_claimable(e execution) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT e.status = 'scheduled' AND e.paused_at IS NULL AND (e.parent_id IS NULL OR parent_runs(e.parent_id, e.epoch))
$$;

-- How long after its claim an attempt should have ended, whatever becomes of its worker's own clock: its run timeout, its
-- grace, and longer than it takes to notice that a worker is lost, because a loss is no timeout. Null: it may run for ever.
CREATE FUNCTION run_backstop(p_action text, p_version int) RETURNS interval LANGUAGE sql STABLE AS $$
    SELECT ((a.definition #>> '{timeout,run}')::float8 + coalesce((a.definition ->> 'grace')::float8, 10) + 30)
           * interval '1 second'
    FROM action a WHERE a.name = p_action AND a.version = p_version
$$;

-- Whether another attempt follows one that ended: not when a cancel waits, nor when a retry would begin after the deadline.
CREATE FUNCTION goes_on(e execution, target text, outcome text, delay float8) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT e.status = 'running' AND target = 'requested'
       AND (outcome NOT IN ('failed', 'timed_out') OR e.deadline IS NULL OR e.deadline > now() + delay * interval '1 second')
$$;

-- Whether a worker's lease lives, by the database's clock.
CREATE FUNCTION lease_lives(p_worker uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM worker w WHERE w.id = p_worker AND w.ended_at IS NULL AND w.lease_expires_at > now())
$$;

CREATE TYPE claimed AS (
    id uuid, attempt int, failures int, action text, action_version int, params text, waited_seconds float8,
    retry text  -- the policy of a partition's batch, where it has one
);
