-- Why: a batch cuts work into partitions, runs each as an execution of its own, and knows at every instant how far it is.
-- min_daemon: 0.1.0

-- Law 2. Each move has one owner and one guarded statement. Whoever's conditional update wins has ended the batch.
-- Law 5. Handling twice equals handling once: counters move in the transaction that ends the partition, by arithmetic.
-- Law 7. A parent never holds what its children need: a batch has no keys, no place in a pool and no worker.

-- Registered definitions of batches, versioned like those of actions. A name is an action's or a batch's, never both's.
CREATE TABLE batch_definition (
    name         text        NOT NULL,
    version      int         NOT NULL,
    definition   jsonb       NOT NULL,
    checksum     text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    PRIMARY KEY (name, version)
);

-- One row beside the execution of each batch. The counters are of its present partitions (those not superseded), one for
-- each terminal status, and move by arithmetic in the transaction that ends the partition.
CREATE TABLE batch (
    execution_id  uuid        PRIMARY KEY,
    epoch         int         NOT NULL DEFAULT 1,
    definition    jsonb       NOT NULL,              -- pinned, whether it was registered or given with the request
    total         int         NOT NULL DEFAULT 0,    -- partitions made so far
    completed     int         NOT NULL DEFAULT 0,
    partial       int         NOT NULL DEFAULT 0,
    failed        int         NOT NULL DEFAULT 0,
    timed_out     int         NOT NULL DEFAULT 0,
    cancelled     int         NOT NULL DEFAULT 0,
    abandoned     int         NOT NULL DEFAULT 0,
    skipped       int         NOT NULL DEFAULT 0,
    plan_cursor   bigint      NOT NULL DEFAULT 0,    -- items of the plan that are partitions already
    plan_digest   text        NOT NULL DEFAULT '',   -- over their keys: another attempt must plan the same
    planned_at    timestamptz,                       -- the plan is whole
    sealed_at     timestamptz,                       -- no more partitions come
    drains        boolean     NOT NULL DEFAULT false,  -- a cancel lets what runs finish
    progressed_at timestamptz,                       -- when a partition last ended
    ended_at      timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
-- What is open: the reconciler looks at it every few seconds.
CREATE INDEX batch_open ON batch (execution_id) WHERE ended_at IS NULL;

-- The lanes in which partitions of a batch wait, to find them when it is cancelled.
CREATE TABLE batch_lane (
    execution_id uuid   NOT NULL,
    lane_id      bigint NOT NULL REFERENCES lane ON DELETE CASCADE,
    PRIMARY KEY (execution_id, lane_id)
);
CREATE INDEX batch_lane_of ON batch_lane (lane_id);

-- What happened to a batch and starts an action, written with the move that it tells about: once for each epoch and event.
CREATE TABLE batch_callback (
    execution_id uuid        NOT NULL,
    epoch        int         NOT NULL,
    event        text        NOT NULL,
    happened_at  timestamptz NOT NULL DEFAULT now(),
    requested_at timestamptz,  -- when its execution was accepted
    PRIMARY KEY (execution_id, epoch, event)
);
CREATE INDEX batch_callback_due ON batch_callback (execution_id) WHERE requested_at IS NULL;

-- A plan that was made anew to look at it: at most one of a batch, the newest. The difference to the partitions of its epoch
-- is what it is for; `applied_in` is the epoch that was planned from it.
CREATE TABLE batch_preview (
    plan_id    uuid        PRIMARY KEY,              -- the execution that makes it, which is no child of the batch
    batch_id   uuid        NOT NULL UNIQUE,
    epoch      int         NOT NULL,                 -- that of the batch when it was asked for
    cursor     bigint      NOT NULL DEFAULT 0,       -- these three as those of a batch
    digest     text        NOT NULL DEFAULT '',
    planned_at timestamptz,
    applied_in int
);

-- Its keys, in the order of the plan. Once it is applied: those that are to be made.
CREATE TABLE batch_preview_key (
    plan_id   uuid   NOT NULL REFERENCES batch_preview ON DELETE CASCADE,
    position  bigint NOT NULL,
    child_key text   NOT NULL,
    params    jsonb  NOT NULL,
    PRIMARY KEY (plan_id, position),
    UNIQUE (plan_id, child_key)
);

-- Whether a batch wants to be heard of this.
CREATE FUNCTION notifies(p_definition jsonb, p_event text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT EXISTS (SELECT 1 FROM jsonb_array_elements(p_definition -> 'notify') n WHERE n -> 'on' ? p_event)
$$;

-- The id of a child: the time of its parent, then a hash, so that the primary key refuses a repeated child, and the children
-- of a batch are neighbours in it. The same as child_id in interlock/contract/identity.py.
CREATE FUNCTION child_id(p_parent uuid, p_epoch int, p_key text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
-- In plpgsql, as it is called for a million rows: a function in SQL that is not inlined is planned for each call.
DECLARE
    h text := encode(sha256(convert_to(p_parent || '/' || p_epoch || '/' || p_key, 'UTF8')), 'hex');
BEGIN
    RETURN substr(p_parent::text, 1, 13) || '-7' || substr(h, 2, 3) || '-'  -- version 7
           || translate(substr(h, 5, 1), '0123456789abcdef', '89ab89ab89ab89ab') || substr(h, 6, 3)  -- variant 10
           || '-' || substr(h, 9, 12);
END $$;

-- The ids between which all children of a parent are: those of its millisecond.
CREATE FUNCTION first_child(p_parent uuid) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (left(p_parent::text, 13) || '-0000-0000-000000000000')::uuid
$$;
CREATE FUNCTION last_child(p_parent uuid) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (left(p_parent::text, 13) || '-ffff-ffff-ffffffffffff')::uuid
$$;

-- How many partitions have ended.
CREATE FUNCTION processed(b batch) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT b.completed + b.partial + b.failed + b.timed_out + b.cancelled + b.abandoned + b.skipped
$$;

-- Accepted batches start at once: they have no keys to wait for.
CREATE FUNCTION start_batches(p_ids uuid[], p_actor text) RETURNS message[] LANGUAGE plpgsql AS $$
DECLARE
    moves move[];
BEGIN
    WITH moved AS (
        UPDATE execution e SET status = 'running', moves = e.moves + 1, started_at = now()
        WHERE e.id = ANY(p_ids) AND e.kind = 'batch' AND e.status = 'requested' RETURNING e.*
    ), called AS (
        INSERT INTO batch_callback (execution_id, epoch, event)
        SELECT b.execution_id, b.epoch, 'started' FROM moved m JOIN batch b ON b.execution_id BETWEEN m.id AND m.id
        WHERE notifies(b.definition, 'started')
    )
    SELECT array_agg(ROW(m.id, m.epoch, m.moves, 'requested', m.status, m.attempt, m.action, m.parent_id, m.pool, NULL, NULL,
                         NULL, NULL, NULL)::move) INTO moves FROM moved m;
    RETURN record_moves(moves, 'executor', p_actor);
END $$;

-- Partitions that ended are counted, in the transaction that ended them and as its last statement: one update for each
-- batch of a flush, in the order of ids, because the lock of a counter lasts until the commit. The planning is no partition.
CREATE FUNCTION count_ends(p_moves move[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    parents uuid[] := ARRAY(SELECT DISTINCT m.parent_id FROM unnest(p_moves) m
                            WHERE m.parent_id IS NOT NULL AND is_terminal(m.target));
BEGIN
    IF cardinality(parents) = 0 THEN
        RETURN;
    END IF;
    PERFORM 1 FROM batch b WHERE b.execution_id = ANY(parents) ORDER BY b.execution_id FOR NO KEY UPDATE;
    WITH counted AS (
        UPDATE batch b
        SET completed = b.completed + n.completed, partial = b.partial + n.partial, failed = b.failed + n.failed,
            timed_out = b.timed_out + n.timed_out, cancelled = b.cancelled + n.cancelled,
            abandoned = b.abandoned + n.abandoned, skipped = b.skipped + n.skipped, progressed_at = now()
        FROM (SELECT m.parent_id,
                     count(*) FILTER (WHERE m.target = 'completed')::int AS completed,
                     count(*) FILTER (WHERE m.target = 'partial')::int AS partial,
                     count(*) FILTER (WHERE m.target = 'failed')::int AS failed,
                     count(*) FILTER (WHERE m.target = 'timed_out')::int AS timed_out,
                     count(*) FILTER (WHERE m.target = 'cancelled')::int AS cancelled,
                     count(*) FILTER (WHERE m.target = 'abandoned')::int AS abandoned,
                     count(*) FILTER (WHERE m.target = 'skipped')::int AS skipped
              FROM unnest(p_moves) m JOIN execution e ON e.id BETWEEN m.id AND m.id
              WHERE m.parent_id IS NOT NULL AND is_terminal(m.target) AND e.child_key <> '$plan'
              GROUP BY m.parent_id) n
        WHERE b.execution_id BETWEEN n.parent_id AND n.parent_id
        RETURNING b.*, n.failed + n.timed_out + n.abandoned AS fresh
    )
    INSERT INTO batch_callback (execution_id, epoch, event)
    SELECT c.execution_id, c.epoch, 'first_failure' FROM counted c
    WHERE c.fresh > 0 AND c.failed + c.timed_out + c.abandoned = c.fresh AND notifies(c.definition, 'first_failure')
    ON CONFLICT DO NOTHING;
END $$;

-- Say again where a batch stands, so that an executor looks at it.
CREATE FUNCTION nudge_batch(p_batch uuid, p_actor text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO outbox (role, exchange, routing_key, events, body)
    SELECT 'executor', 'status', 'execution.status_changed.' || e.status || '.parent', 1,
           cloud_event('execution.status_changed', e.id || '/' || e.epoch || '/' || e.moves, p_actor, e.id,
               '{"id":"' || e.id || '","attempt":' || e.attempt || ',"epoch":' || e.epoch || ',"from":"' || t.source
               || '","to":"' || e.status || '","action":' || to_json(e.action) || ',"parent_id":null}')
    FROM execution e JOIN execution_transition t ON t.execution_id = e.id AND t.move = e.moves
    WHERE e.id = p_batch AND t.source IS NOT NULL;
    SELECT leave_to_relays('{}')  -- it has no claim to give up
$$;

-- New partitions of a running batch, accepted like anything else. Who adds them cannot publish what the executors owe, so
-- the messages are left to their sweep. Acceptance has locked the batch's execution, which keeps it where it is.
-- Returns those that are new (a key that is there already is not made again), or null for a batch that takes none. Done again
-- when that turns out to have changed meanwhile.
CREATE FUNCTION add_partitions(p_batch uuid, p_id uuid[], p_child_key text[], p_action text[], p_version int[], p_pool text[],
                               p_priority int[], p_lane bigint[], p_params text[], p_hash bytea[], p_error text[],
                               p_queue_timeout float8[], p_total_timeout float8[], p_actor text,
                               OUT added uuid[], OUT more int[])
LANGUAGE plpgsql AS $$
DECLARE
    n int := cardinality(p_id);
    batch_epoch int;
    messages message[];
BEGIN
    SELECT b.epoch INTO batch_epoch FROM batch b JOIN execution e ON e.id = b.execution_id
    WHERE b.execution_id = p_batch AND b.sealed_at IS NULL AND e.status = 'running' AND e.epoch = b.epoch;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT a.accepted, a.messages, a.more INTO added, messages, more
    FROM accept(p_id, p_action, p_version, p_pool, p_priority, p_lane, p_params, p_hash,
                array_fill('[]'::text, ARRAY[n]), NULL, NULL, p_queue_timeout, p_total_timeout, p_error, NULL, NULL,
                array_fill(p_batch, ARRAY[n]), p_child_key, array_fill(batch_epoch, ARRAY[n]), p_actor) a;
    PERFORM leave_to_relays(ARRAY(SELECT m.id FROM unnest(messages) m));
    INSERT INTO batch_lane (execution_id, lane_id)
    SELECT DISTINCT p_batch, lane FROM unnest(p_lane) lane WHERE lane IS NOT NULL ORDER BY 2 ON CONFLICT DO NOTHING;
    UPDATE batch b SET total = b.total + cardinality(added)
    WHERE b.execution_id = p_batch AND b.sealed_at IS NULL AND b.epoch = batch_epoch AND EXISTS (
        SELECT 1 FROM execution e WHERE e.id = p_batch AND e.epoch = batch_epoch AND e.status = 'running');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the batch was sealed or cancelled meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;

-- A step of the planning, by the attempt that holds the fence: the next partitions, the cursor behind them, and with the last
-- step the seal (an open batch stays open). Whoever comes behind finds its place taken, which is no error: null.
CREATE FUNCTION plan_chunk(p_plan uuid, p_attempt int, p_worker uuid, p_cursor bigint, p_items int, p_digest text,
                           p_whole boolean, p_id uuid[], p_child_key text[], p_action text[], p_version int[], p_pool text[],
                           p_priority int[], p_lane bigint[], p_params text[], p_hash bytea[], p_error text[],
                           p_queue_timeout float8[], p_total_timeout float8[], p_actor text,
                           OUT added uuid[], OUT more int[])
LANGUAGE plpgsql AS $$
DECLARE
    of_batch uuid;
BEGIN
    SELECT e.parent_id INTO of_batch FROM execution e JOIN batch b ON b.execution_id BETWEEN e.parent_id AND e.parent_id
    WHERE e.id = p_plan AND e.status = 'running' AND e.attempt = p_attempt AND e.worker_id = p_worker AND lease_lives(p_worker)
      AND e.epoch = b.epoch AND b.plan_cursor = p_cursor AND b.planned_at IS NULL;
    IF of_batch IS NULL THEN
        RETURN;
    END IF;
    SELECT a.added, a.more INTO added, more
    FROM add_partitions(of_batch, p_id, p_child_key, p_action, p_version, p_pool, p_priority, p_lane, p_params, p_hash,
                        p_error, p_queue_timeout, p_total_timeout, p_actor) a;
    IF added IS NULL THEN
        RETURN;
    END IF;
    UPDATE batch b
    SET plan_cursor = p_cursor + p_items, plan_digest = p_digest, planned_at = CASE WHEN p_whole THEN now() END,
        sealed_at = CASE WHEN p_whole AND (coalesce((b.definition ->> 'sealed')::boolean, true) OR b.epoch > 1) THEN now() END
    WHERE b.execution_id = of_batch AND b.plan_cursor = p_cursor AND b.planned_at IS NULL;
    IF NOT FOUND OR cardinality(added) < cardinality(p_id) THEN
        RAISE EXCEPTION 'a partition of this plan exists already' USING ERRCODE = 'unique_violation';
    END IF;
    IF p_whole THEN
        PERFORM nudge_batch(of_batch, p_actor);
    END IF;
END $$;

-- The retry policy of a partition, where its batch has one: it replaces that of the action.
CREATE FUNCTION retry_of(p_parent uuid, p_key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_parent IS NOT NULL AND p_key <> '$plan'
                THEN (SELECT (b.definition -> 'retry')::text FROM batch b WHERE b.execution_id = p_parent) END
$$;

-- A batch as it stands: its counts (`kept` are the partitions that a restart left as they had ended), what of it is in
-- flight, its live key, and what it got done in the last five minutes. By keys alone, so planned once: to plan it for each
-- reading took four times as long as to run it.
CREATE FUNCTION batch_state(p_batch uuid) RETURNS TABLE (
    id uuid, name text, status text, epoch int, params text, error text, cancel_reason text, requested_at timestamptz,
    started_at timestamptz, finished_at timestamptz, now timestamptz, definition text, made int, completed int, partial int,
    failed int, timed_out int, cancelled int, abandoned int, skipped int, kept bigint, sealed boolean, planned boolean,
    plan_status text, progressed_at timestamptz, scheduled bigint, running bigint, max_parallel int, paused boolean,
    recent bigint)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT e.id, e.action AS name, e.status::text AS status, e.epoch, e.params::text AS params, e.error::text AS error,
           e.cancel_reason, e.requested_at, e.started_at, e.finished_at, now(), b.definition::text AS definition,
           b.total AS made, b.completed, b.partial, b.failed, b.timed_out, b.cancelled, b.abandoned, b.skipped,
           CASE WHEN b.epoch > 1 THEN b.total - b.plan_cursor ELSE 0 END AS kept,
           b.sealed_at IS NOT NULL AS sealed, b.planned_at IS NOT NULL AS planned, p.status::text AS plan_status,
           greatest(b.progressed_at, b.planned_at, e.started_at) AS progressed_at, f.scheduled, f.running, q.lim AS max_parallel,
           q.paused, r.recent
    FROM execution e JOIN batch b ON b.execution_id BETWEEN e.id AND e.id
    -- Computed once, not for each row that it is compared with.
    CROSS JOIN LATERAL (SELECT child_id(e.id, e.epoch, '$plan') AS id OFFSET 0) plan
    LEFT JOIN execution p ON p.id BETWEEN plan.id AND plan.id
    LEFT JOIN queue q ON q.scope = 'leaf' AND q.name BETWEEN 'batch:' || e.id AND 'batch:' || e.id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE i.worker_id IS NULL) AS scheduled, count(*) FILTER (WHERE i.worker_id IS NOT NULL) AS running
        FROM in_flight i
        WHERE i.execution_id BETWEEN first_child(e.id) AND last_child(e.id) AND i.parent_id = e.id
          AND i.execution_id <> plan.id) f
    CROSS JOIN LATERAL (
        SELECT sum(m.n)::bigint AS recent FROM queue_minute m
        WHERE m.key_id = q.id AND m.event = 'finished' AND m.minute >= date_trunc('minute', now()) - interval '4 minutes'
          AND m.minute >= date_trunc('minute', e.started_at)) r
    WHERE e.id = p_batch;
END $$;

-- The present partitions of a batch that are all of what is given: of these statuses, keys and kinds of errors. Null: any.
CREATE FUNCTION chosen_partitions(p_batch uuid, p_statuses status[], p_keys text[], p_errors text[]) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT e.id FROM execution e
    WHERE e.id BETWEEN first_child(p_batch) AND last_child(p_batch) AND e.parent_id = p_batch AND e.child_key <> '$plan'
      AND e.superseded_by IS NULL AND (p_statuses IS NULL OR e.status = ANY(p_statuses))
      AND (p_keys IS NULL OR e.child_key = ANY(p_keys))
      AND (p_errors IS NULL OR e.error ->> 'fingerprint' = ANY(p_errors) OR e.error ->> 'class' = ANY(p_errors))
$$;

-- Have a batch that has ended in the epoch that was looked at to oneself: of two who mean to go on with it one waits, and does
-- no work in vain.
CREATE FUNCTION hold_ended(p_batch uuid, p_epoch int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended boolean;
BEGIN
    SELECT e.epoch = p_epoch AND is_terminal(e.status) INTO ended FROM execution e
    WHERE e.id = p_batch AND e.kind = 'batch' FOR NO KEY UPDATE;
    IF ended IS NOT TRUE THEN
        RAISE EXCEPTION 'somebody else has restarted this batch' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;

-- Begin the next epoch of a batch that has ended, with a planning of its own. One transaction with whatever it supersedes,
-- guarded by the epoch that was looked at, and the last of it: it locks keys of the pool, for which others must not wait until
-- a million partitions are superseded. The arguments p_plan to p_lane describe the planning, as for acceptance.
CREATE FUNCTION open_epoch(p_batch uuid, p_epoch int, p_plan uuid, p_pool text, p_priority int, p_lane bigint, p_reason text,
                           p_actor text) RETURNS int[]
LANGUAGE plpgsql AS $$
DECLARE
    moves move[];
    messages message[];
    more int[];
BEGIN
    SELECT a.messages, a.more INTO messages, more
    FROM accept(ARRAY[p_plan], ARRAY['$plan'], ARRAY[NULL::int], ARRAY[p_pool], ARRAY[p_priority], ARRAY[p_lane], ARRAY['{}'],
                ARRAY[uuid_send(p_plan)], ARRAY['[]'], ARRAY[NULL::timestamptz], ARRAY[NULL::timestamptz],
                ARRAY[NULL::float8], ARRAY[NULL::float8], ARRAY[NULL::text], NULL, NULL, ARRAY[p_batch], ARRAY['$plan'],
                ARRAY[p_epoch + 1], p_actor) a;
    WITH moved AS (
        UPDATE execution e
        SET status = 'running', epoch = e.epoch + 1, moves = e.moves + 1, started_at = now(), finished_at = NULL, result = NULL,
            error = NULL, cancel_reason = NULL,
            deadline = now() + (b.definition ->> 'deadline')::float8 * interval '1 second'
        FROM execution o JOIN batch b ON b.execution_id = o.id
        WHERE e.id = p_batch AND o.id = e.id AND e.epoch = p_epoch AND e.kind = 'batch' AND is_terminal(e.status)
          AND e.status = o.status
        RETURNING e.*, o.status AS source
    )
    SELECT array_agg(ROW(m.id, m.epoch, m.moves, m.source, m.status, m.attempt, m.action, m.parent_id, m.pool, NULL, NULL,
                         p_reason, NULL, NULL)::move) INTO moves FROM moved m;
    -- Whoever calls this holds the batch; the move is guarded all the same, as each is.
    IF moves IS NULL THEN
        RAISE EXCEPTION 'somebody else has restarted this batch' USING ERRCODE = 'serialization_failure';
    END IF;
    messages := messages || record_moves(moves, 'executor', p_actor);
    PERFORM leave_to_relays(ARRAY(SELECT m.id FROM unnest(messages) m));
    INSERT INTO timer (execution_id, kind, due) SELECT e.id, 'total', e.deadline FROM execution e
    WHERE e.id = p_batch AND e.deadline IS NOT NULL;
    RETURN more;
END $$;

-- Count the present partitions of a batch whose next epoch begins: the one time that its counters are not moved but written.
CREATE FUNCTION recount_batch(p_batch uuid, p_epoch int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE batch b
    SET epoch = p_epoch + 1, total = n.total, completed = n.completed, partial = n.partial, failed = n.failed,
        timed_out = n.timed_out, cancelled = n.cancelled, abandoned = n.abandoned, skipped = n.skipped, plan_cursor = 0,
        plan_digest = '', planned_at = NULL, sealed_at = NULL, drains = false, progressed_at = NULL, ended_at = NULL
    FROM (SELECT count(*)::int AS total, count(*) FILTER (WHERE e.status = 'completed')::int AS completed,
                 count(*) FILTER (WHERE e.status = 'partial')::int AS partial,
                 count(*) FILTER (WHERE e.status = 'failed')::int AS failed,
                 count(*) FILTER (WHERE e.status = 'timed_out')::int AS timed_out,
                 count(*) FILTER (WHERE e.status = 'cancelled')::int AS cancelled,
                 count(*) FILTER (WHERE e.status = 'abandoned')::int AS abandoned,
                 count(*) FILTER (WHERE e.status = 'skipped')::int AS skipped
          FROM execution e
          WHERE e.id BETWEEN first_child(p_batch) AND last_child(p_batch) AND e.parent_id = p_batch AND e.child_key <> '$plan'
            AND e.superseded_by IS NULL) n
    WHERE b.execution_id = p_batch AND b.epoch = p_epoch;
    INSERT INTO batch_callback (execution_id, epoch, event)
    SELECT b.execution_id, b.epoch, 'started' FROM batch b WHERE b.execution_id = p_batch AND notifies(b.definition, 'started');
END $$;

-- Restart a batch that has ended: chosen partitions are superseded by new ones of the next epoch, which a new planning makes
-- from them; all others stay and count. Nothing chosen: nothing happens.
CREATE FUNCTION restart_batch(p_batch uuid, p_epoch int, p_statuses status[], p_keys text[], p_errors text[], p_plan uuid,
                              p_pool text, p_priority int, p_lane bigint, p_reason text, p_actor text,
                              OUT chosen int, OUT more int[])
LANGUAGE plpgsql AS $$
BEGIN
    -- What has ended does not change, so who is chosen may be asked before anything is locked.
    SELECT count(*) INTO chosen FROM chosen_partitions(p_batch, p_statuses, p_keys, p_errors);
    IF chosen = 0 THEN
        RETURN;
    END IF;
    PERFORM hold_ended(p_batch, p_epoch);
    IF NOT EXISTS (SELECT 1 FROM batch b WHERE b.execution_id = p_batch AND b.planned_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the plan of this batch was never finished' USING ERRCODE = 'serialization_failure';
    END IF;
    UPDATE execution e SET superseded_by = child_id(p_batch, p_epoch + 1, e.child_key)
    FROM chosen_partitions(p_batch, p_statuses, p_keys, p_errors) c WHERE e.id BETWEEN c AND c;
    PERFORM recount_batch(p_batch, p_epoch);
    more := open_epoch(p_batch, p_epoch, p_plan, p_pool, p_priority, p_lane, p_reason, p_actor);
END $$;

-- Ask for the plan of a batch that has ended to be made anew, to look at it. Nothing of the batch changes; what was asked for
-- before is forgotten. The planning is no child, since a batch that has ended hands out none.
CREATE FUNCTION preview_batch(p_batch uuid, p_epoch int, p_plan uuid, p_pool text, p_priority int, p_lane bigint, p_tags text,
                              p_actor text) RETURNS int[]
LANGUAGE plpgsql AS $$
DECLARE
    messages message[];
    more int[];
BEGIN
    SELECT a.messages, a.more INTO messages, more
    FROM accept(ARRAY[p_plan], ARRAY['$plan'], ARRAY[NULL::int], ARRAY[p_pool], ARRAY[p_priority], ARRAY[p_lane], ARRAY['{}'],
                ARRAY[uuid_send(p_plan)], ARRAY[p_tags], ARRAY[NULL::timestamptz], ARRAY[NULL::timestamptz],
                ARRAY[NULL::float8], ARRAY[NULL::float8], ARRAY[NULL::text], NULL, NULL, NULL, NULL, NULL, p_actor) a;
    PERFORM hold_ended(p_batch, p_epoch);
    DELETE FROM batch_preview v WHERE v.batch_id = p_batch;
    INSERT INTO batch_preview (plan_id, batch_id, epoch) VALUES (p_plan, p_batch, p_epoch);
    PERFORM leave_to_relays(ARRAY(SELECT m.id FROM unnest(messages) m));
    RETURN more;
END $$;

-- A step of a planning that is only looked at, by the attempt that holds the fence: the next keys and the cursor behind them.
-- False for whoever comes behind, or has been forgotten.
CREATE FUNCTION preview_chunk(p_plan uuid, p_attempt int, p_worker uuid, p_cursor bigint, p_items int, p_digest text,
                              p_whole boolean, p_child_key text[], p_params text[]) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM execution e
    WHERE e.id = p_plan AND e.status = 'running' AND e.attempt = p_attempt AND e.worker_id = p_worker AND lease_lives(p_worker)
    FOR SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE batch_preview v
    SET cursor = p_cursor + p_items, digest = p_digest, planned_at = CASE WHEN p_whole THEN now() END
    WHERE v.plan_id = p_plan AND v.cursor = p_cursor AND v.planned_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO batch_preview_key (plan_id, position, child_key, params)
    SELECT p_plan, p_cursor + u.n, u.child_key, u.params::jsonb
    FROM unnest(p_child_key, p_params) WITH ORDINALITY u(child_key, params, n);
    RETURN true;
END $$;

-- What a plan that was made anew would do to a batch: each key of either, whether it is new, gone or the same, and of what
-- is the same whether it is chosen to be made again, and whether its parameters are others now.
CREATE FUNCTION replanned(p_batch uuid, p_plan uuid, p_statuses status[], p_keys text[], p_errors text[])
RETURNS TABLE (id uuid, child_key text, "position" bigint, fate text, again boolean, changed boolean)
LANGUAGE sql STABLE AS $$
    SELECT e.id, coalesce(k.child_key, e.child_key), k.position,
           CASE WHEN e.id IS NULL THEN 'new' WHEN k.plan_id IS NULL THEN 'gone' ELSE 'same' END,
           k.plan_id IS NOT NULL AND e.id IN (SELECT chosen_partitions(p_batch, p_statuses, p_keys, p_errors)),
           coalesce(e.params <> k.params, false)
    FROM (SELECT x.* FROM chosen_partitions(p_batch, NULL, NULL, NULL) c JOIN execution x ON x.id = c) e
    FULL JOIN (SELECT y.* FROM batch_preview_key y WHERE y.plan_id = p_plan) k ON k.child_key = e.child_key
$$;

-- Restart a batch with a plan that was made anew: what is gone is superseded by the planning of the next epoch, which makes
-- what is new, and what is chosen of the same. All else stays and counts. Refused where the plan that was looked at is not
-- that of this epoch any more. Nothing to make and nothing gone: nothing happens.
CREATE FUNCTION replan_batch(p_batch uuid, p_epoch int, p_preview uuid, p_statuses status[], p_keys text[], p_errors text[],
                             p_plan uuid, p_pool text, p_priority int, p_lane bigint, p_reason text, p_actor text,
                             OUT made int, OUT gone int, OUT more int[])
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM batch_preview v WHERE v.plan_id = p_preview AND v.planned_at IS NOT NULL) THEN
        RAISE EXCEPTION 'this plan is not whole' USING ERRCODE = 'serialization_failure';
    END IF;
    -- What has ended does not change, nor does a whole plan, so this may be asked before anything is locked.
    SELECT count(*) FILTER (WHERE r.fate = 'new' OR r.again), count(*) FILTER (WHERE r.fate = 'gone') INTO made, gone
    FROM replanned(p_batch, p_preview, p_statuses, p_keys, p_errors) r;
    IF made + gone = 0 THEN
        RETURN;
    END IF;
    PERFORM hold_ended(p_batch, p_epoch);
    UPDATE batch_preview v SET applied_in = p_epoch + 1
    WHERE v.plan_id = p_preview AND v.batch_id = p_batch AND v.epoch = p_epoch AND v.applied_in IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this batch was planned anew meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    WITH fates AS MATERIALIZED (
        SELECT * FROM replanned(p_batch, p_preview, p_statuses, p_keys, p_errors)
    ), kept AS (
        DELETE FROM batch_preview_key k USING fates f
        WHERE k.plan_id = p_preview AND k.position = f.position AND f.fate = 'same' AND NOT f.again
    )
    UPDATE execution e
    SET superseded_by = CASE WHEN f.fate = 'gone' THEN p_plan ELSE child_id(p_batch, p_epoch + 1, e.child_key) END
    FROM fates f WHERE e.id BETWEEN f.id AND f.id AND (f.fate = 'gone' OR f.again);
    PERFORM recount_batch(p_batch, p_epoch);
    more := open_epoch(p_batch, p_epoch, p_plan, p_pool, p_priority, p_lane, p_reason, p_actor);
END $$;

-- No more partitions come. Again, or for what plans still: nothing.
CREATE FUNCTION seal_batch(p_batch uuid, p_actor text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE batch b SET sealed_at = now()
    WHERE b.execution_id = p_batch AND b.sealed_at IS NULL AND b.ended_at IS NULL AND b.planned_at IS NOT NULL;
    IF FOUND THEN
        PERFORM nudge_batch(p_batch, p_actor);
    END IF;
    RETURN FOUND;
END $$;
