-- Why: acceptance and admission are one transaction. What cannot go at once waits, and what may not wait is refused.
-- min_daemon: 0.1.0

-- Law 1. The row is the truth; a message is a hint. Accepted means the row is committed.

-- Who may not wait. Judged after the admission, so that only those count who do wait. `reject` refuses the newest arrivals;
-- `drop_oldest` cancels for each of them the oldest of its own lane, which may be itself. p_ids arrived just now; the
-- caller holds the locks of p_keys, all keys of their lanes.
CREATE FUNCTION enforce_caps(p_keys int[], p_ids uuid[], p_actor text,
                             OUT messages message[], OUT refused uuid[], OUT refusal text[], OUT ended move[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    victims uuid[];
    moves move[];
    reason text;
    key record;
BEGIN
    FOR key IN SELECT id, name, cap, cap_policy FROM queue WHERE id = ANY(p_keys) AND waiting > cap ORDER BY id LOOP
        WITH late AS (
            SELECT w.lane_id, w.seq, e.id FROM unnest(p_ids) i JOIN execution e ON e.id BETWEEN i AND i
            JOIN waiting w ON (w.lane_id, w.seq) BETWEEN (e.lane_id, e.seq) AND (e.lane_id, e.seq) JOIN lane l ON l.id = w.lane_id
            WHERE key.id = ANY(l.keys) ORDER BY w.seq DESC
            LIMIT greatest(0, (SELECT q.waiting - q.cap FROM queue q WHERE q.id = key.id))
        ), oldest AS (
            SELECT w.execution_id AS id FROM (SELECT lane_id, count(*) AS n FROM late GROUP BY lane_id) t
            CROSS JOIN LATERAL (SELECT execution_id FROM waiting WHERE lane_id = t.lane_id ORDER BY seq LIMIT t.n) w
        )
        SELECT array_agg(v.id) INTO victims
        FROM (SELECT id FROM late WHERE key.cap_policy = 'reject'
              UNION ALL SELECT id FROM oldest WHERE key.cap_policy = 'drop_oldest') v;
        CONTINUE WHEN victims IS NULL;
        IF key.cap_policy = 'reject' THEN
            reason := format('%s is full: %s wait and no more may', key.name, key.cap);
            refused := refused || victims;
            refusal := refusal || array_fill(jsonb_build_object('class', 'queue_full', 'message', reason)::text,
                                             ARRAY[cardinality(victims)]);
        ELSE
            reason := format('%s is full: the oldest of %s gave way', key.name, key.cap);
        END IF;
        moves := decide(victims, array_fill(NULL::int, ARRAY[cardinality(victims)]),
                        array_fill(CASE key.cap_policy WHEN 'reject' THEN 'failed' ELSE 'cancelled' END::status,
                                   ARRAY[cardinality(victims)]), reason, 'queue_full');
        messages := messages || record_moves(moves, 'executor', p_actor);
        ended := ended || moves;
    END LOOP;
END $$;

-- Acceptance: the row is committed. Parallel arrays, one element per request; p_error holds a refusal as JSON.
-- A known id or a held idempotency key is skipped and not returned: the caller compares and answers. What no request has is
-- null instead of an array of nulls: times, p_error, p_key; p_batch, the definition of a batch; p_parent, p_child_key and
-- p_epoch, which a child has.
CREATE FUNCTION accept(p_id uuid[], p_action text[], p_version int[], p_pool text[], p_priority int[], p_lane bigint[],
                       p_params text[], p_hash bytea[], p_tags text[], p_not_before timestamptz[],
                       p_deadline timestamptz[], p_queue_timeout float8[], p_total_timeout float8[], p_error text[],
                       p_key text[], p_batch text[], p_parent uuid[], p_child_key text[], p_epoch int[], p_actor text,
                       OUT accepted uuid[], OUT refused uuid[], OUT refusal text[], OUT messages message[], OUT more int[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    blocked uuid[] := '{}';   -- requests whose idempotency key somebody else holds
    gated bigint[];
    strong int[]; weak int[];
    moves move[];
    own message[]; moved message[];
    statuses status[];
    waits boolean[]; seqs bigint[];
    entered_lane bigint[]; entered_first bigint[]; entered_count int[];
    tombstones text[];
    all_new boolean;
    key record;
BEGIN
    IF p_key IS NOT NULL THEN
        DELETE FROM idempotency_key k WHERE k.key IN (
            SELECT x.key FROM idempotency_key x WHERE x.key = ANY(p_key) AND x.expires_at < now() ORDER BY x.key FOR UPDATE);
        WITH taken AS (
            INSERT INTO idempotency_key (key, request_hash, execution_id, expires_at)
            SELECT k, hash, id, now() + interval '1 day' FROM unnest(p_key, p_hash, p_id) WITH ORDINALITY u(k, hash, id, n)
            WHERE k IS NOT NULL ORDER BY k, n ON CONFLICT DO NOTHING RETURNING idempotency_key.execution_id
        )
        SELECT coalesce(array_agg(u.id), '{}') INTO blocked FROM unnest(p_key, p_id) u(k, id)
        WHERE k IS NOT NULL AND u.id NOT IN (SELECT taken.execution_id FROM taken);
    END IF;

    -- Which lanes must queue: a limited, paused or waited-for key, or a window without room for all of this flush.
    SELECT array_agg(l.id) INTO gated FROM lane l
    WHERE l.id = ANY(p_lane) AND EXISTS (
        SELECT 1 FROM queue q WHERE q.id = ANY(l.keys) AND (q.gated OR (q.scope = 'pool'
            AND pool_window(q.name) < (SELECT count(*) FROM unnest(p_pool) p WHERE p = q.name))));
    strong := ARRAY(SELECT DISTINCT k FROM lane l CROSS JOIN unnest(l.keys) k WHERE l.id = ANY(gated));
    weak := ARRAY(SELECT DISTINCT k FROM lane l CROSS JOIN unnest(l.keys) k
                  WHERE l.id = ANY(p_lane) AND l.id <> ALL(coalesce(gated, '{}')) AND k <> ALL(strong));
    -- One pass in the order of ids. Unlimited keys are shared: only a first limit waits for us, and we for it.
    FOR key IN SELECT k AS id FROM unnest(strong || weak) k ORDER BY k LOOP
        IF key.id = ANY(strong) THEN
            PERFORM 1 FROM queue WHERE id = key.id FOR NO KEY UPDATE;
        ELSE
            PERFORM 1 FROM queue WHERE id = key.id FOR KEY SHARE;
        END IF;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a key was forgotten meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;
    IF EXISTS (SELECT 1 FROM queue q WHERE q.id = ANY(weak) AND q.gated AND (q.scope <> 'pool' OR q.paused)) THEN
        RAISE EXCEPTION 'a key was limited meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    IF (SELECT count(*) FROM (SELECT 1 FROM lane l WHERE l.id = ANY(p_lane) ORDER BY l.id FOR KEY SHARE) l)
       < (SELECT count(DISTINCT u) FROM unnest(p_lane) u) THEN
        RAISE EXCEPTION 'a lane was forgotten meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;

    IF p_parent IS NOT NULL THEN
        -- Behind the keys, as always: a parent moves no further until its new children are committed.
        PERFORM 1 FROM execution e WHERE e.id = ANY(p_parent) ORDER BY e.id FOR SHARE;
    END IF;
    SELECT array_agg(CASE
               WHEN u.error IS NOT NULL THEN 'failed'
               WHEN t.execution_id IS NOT NULL THEN 'cancelled'
               WHEN u.batch IS NOT NULL THEN 'requested'
               WHEN u.not_before > now() OR u.lane_id = ANY(gated) THEN 'requested'
               ELSE 'scheduled' END::status ORDER BY u.n),
           array_agg(t.reason ORDER BY u.n),
           array_agg(t.execution_id IS NULL AND u.error IS NULL AND u.lane_id = ANY(gated)
                     AND (u.not_before IS NULL OR u.not_before <= now()) ORDER BY u.n)
    INTO statuses, tombstones, waits
    FROM unnest(p_id, p_error, p_not_before, p_lane, p_batch) WITH ORDINALITY u(id, error, not_before, lane_id, batch, n)
    LEFT JOIN cancel_tombstone t ON t.execution_id = u.id AND t.expires_at > now();
    IF p_batch IS NOT NULL THEN
        -- A batch that does not start has no children.
        blocked := blocked || ARRAY(
            SELECT c.id FROM unnest(p_id, p_parent) c(id, parent) JOIN unnest(p_id, statuses) p(id, status) ON p.id = c.parent
            WHERE p.status <> 'requested' OR p.id = ANY(blocked));
    END IF;

    -- The number in the lane is drawn under the key locks, by priority and arrival: it is the commit order.
    IF true = ANY(waits) THEN
        SELECT array_agg(s.seq ORDER BY s.n) INTO seqs
        FROM (SELECT o.n, CASE WHEN o.waits THEN nextval('waiting_seq') END AS seq
              FROM (SELECT * FROM unnest(waits, p_priority) WITH ORDINALITY w(waits, priority, n)
                    ORDER BY w.priority DESC, w.n) o) s;
    END IF;

    WITH inserted AS (
        INSERT INTO execution (id, kind, status, attempt, action, action_version, parent_id, root_id, child_key, epoch, pool,
                               priority, lane_id, seq, params, request_hash, tags, error, cancel_reason, not_before, deadline,
                               scheduled_at, finished_at)
        SELECT u.id, CASE WHEN u.batch IS NULL THEN 'action' ELSE 'batch' END, u.status, (u.status = 'scheduled')::int,
               u.action, u.version, u.parent, coalesce(u.parent, u.id), u.child_key, coalesce(u.epoch, 1), u.pool, u.priority,
               u.lane_id, u.seq, u.params::jsonb, u.hash, u.tags::jsonb, u.error::jsonb, u.tombstone, u.not_before,
               least(u.deadline, now() + u.total_timeout * interval '1 second'),
               CASE WHEN u.status = 'scheduled' THEN now() END, CASE WHEN is_terminal(u.status) THEN now() END
        FROM unnest(p_id, statuses, p_action, p_version, p_pool, p_priority, p_lane, p_params, p_hash, p_tags, p_error,
                    tombstones, p_not_before, p_deadline, p_total_timeout, seqs, p_batch, p_parent, p_child_key, p_epoch)
             u(id, status, action, version, pool, priority, lane_id, params, hash, tags, error, tombstone, not_before,
               deadline, total_timeout, seq, batch, parent, child_key, epoch)
        WHERE u.id <> ALL(blocked)
        ORDER BY u.id
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(id), '{}') INTO accepted FROM inserted;
    IF p_batch IS NOT NULL THEN
        -- A batch that stood already has its planning, or never started: then a repeat must not plan it.
        WITH orphaned AS (
            DELETE FROM execution e USING unnest(p_id, p_parent) c(id, parent)
            WHERE e.id = c.id AND c.id = ANY(accepted) AND c.parent = ANY(p_id) AND c.parent <> ALL(accepted) RETURNING e.id
        )
        SELECT coalesce(array_agg(a), '{}') INTO accepted FROM unnest(accepted) a WHERE a NOT IN (SELECT id FROM orphaned);
    END IF;

    -- Joining the arrays again costs the square of the flush; with nothing known already there is nothing to filter.
    all_new := cardinality(accepted) = cardinality(p_id);
    SELECT array_agg(ROW(u.id, coalesce(u.epoch, 1), 1, NULL, u.status, (u.status = 'scheduled')::int, u.action, u.parent,
                         u.pool, NULL, NULL, coalesce(u.error::jsonb ->> 'message', u.tombstone), NULL, NULL)::move ORDER BY u.n)
    INTO moves
    FROM unnest(p_id, statuses, p_action, p_pool, p_error, tombstones, p_parent, p_epoch)
         WITH ORDINALITY u(id, status, action, pool, error, tombstone, parent, epoch, n)
    WHERE all_new OR u.id = ANY(accepted);

    IF p_key IS NOT NULL AND NOT all_new THEN
        -- A key whose id was known already is not spent.
        DELETE FROM idempotency_key k USING unnest(p_key, p_id) u(key, id)
        WHERE k.key = u.key AND u.id <> ALL(blocked) AND u.id <> ALL(accepted);
    END IF;
    DELETE FROM cancel_tombstone t WHERE t.execution_id = ANY(accepted);
    IF p_batch IS NOT NULL THEN
        INSERT INTO batch (execution_id, definition, planned_at, ended_at)
        SELECT u.id, u.batch::jsonb, CASE WHEN NOT u.batch::jsonb ? 'partition' THEN now() END,
               CASE WHEN is_terminal(u.status) THEN now() END
        FROM unnest(p_id, p_batch, statuses) u(id, batch, status) WHERE u.batch IS NOT NULL AND u.id = ANY(accepted);
        -- What was cancelled before it came has ended all the same, without a start.
        INSERT INTO batch_callback (execution_id, epoch, event)
        SELECT u.id, 1, v.event FROM unnest(p_id, p_batch, statuses) u(id, batch, status)
        CROSS JOIN LATERAL (VALUES ('finished'), (u.status::text)) v(event)
        WHERE u.batch IS NOT NULL AND is_terminal(u.status) AND u.id = ANY(accepted) AND notifies(u.batch::jsonb, v.event);
    END IF;
    own := record_moves(moves, 'executor', p_actor);
    IF p_batch IS NOT NULL THEN
        own := own || start_batches(accepted, p_actor);
    END IF;
    messages := own;
    IF coalesce(p_not_before, p_deadline) IS NOT NULL OR coalesce(p_queue_timeout, p_total_timeout) IS NOT NULL THEN
        INSERT INTO timer (execution_id, kind, due)
        SELECT u.id, t.kind, t.due
        FROM unnest(p_id, statuses, p_not_before, p_deadline, p_queue_timeout, p_total_timeout)
             u(id, status, not_before, deadline, queue_timeout, total_timeout)
        CROSS JOIN LATERAL (VALUES
            ('enter', CASE WHEN u.not_before > now() THEN u.not_before END),
            ('queue', CASE WHEN u.status = 'requested'
                           THEN greatest(now(), u.not_before) + u.queue_timeout * interval '1 second' END),
            ('total', least(u.deadline, now() + u.total_timeout * interval '1 second'))) t(kind, due)
        WHERE t.due IS NOT NULL AND NOT is_terminal(u.status) AND (all_new OR u.id = ANY(accepted));
    END IF;
    IF seqs IS NOT NULL THEN
        WITH entered AS (
            INSERT INTO waiting (lane_id, seq, execution_id)
            SELECT u.lane_id, u.seq, u.id FROM unnest(p_lane, seqs, p_id) u(lane_id, seq, id)
            WHERE u.seq IS NOT NULL AND (all_new OR u.id = ANY(accepted))
            RETURNING lane_id, seq
        ), lanes AS (
            SELECT lane_id, min(seq) AS first, count(*)::int AS n FROM entered GROUP BY lane_id
        )
        SELECT array_agg(lane_id), array_agg(first), array_agg(n) INTO entered_lane, entered_first, entered_count FROM lanes;
        SELECT a.messages, a.more INTO moved, more
        FROM admit_locked(strong, '{}', '{}', '{}', entered_lane, entered_first, entered_count, 500, p_actor) a;
        own := own || moved;
        SELECT c.messages, c.refused, c.refusal, moves || c.ended INTO moved, refused, refusal, moves
        FROM enforce_caps(strong, accepted, p_actor) c;
        own := own || moved;
        IF moved IS NOT NULL THEN
            -- Who gave way may have claimed room, or been the last whom a rate had to wake.
            SELECT a.messages, a.more INTO moved, more FROM admit_locked(strong, '{}', '{}', '{}', '{}', '{}', '{}', 500, p_actor) a;
            own := own || moved;
        END IF;
        messages := own;
    END IF;
    PERFORM count_ends(moves);
END $$;
