-- Why: one function admits. Limits are exact because every change of a key's slots happens under the key's row lock,
-- room is read by a statement started after that lock, and the lock is held to the commit.
-- min_daemon: 0.1.0

-- Law 5. Handling twice equals handling once: a slot is released by deleting its row, so a duplicate finds nothing.
-- Locks are taken in one order: queue rows by id, then execution rows by id, then waiting, lane and slot (protected by
-- the key locks). A transaction locks keys once; a lane with a key it did not lock is left to the next call.

-- Keys and lanes that do not exist yet. Runs before any other lock of its transaction, in the order of names, so that
-- two callers cannot wait for each other. p_lane numbers the lanes; one row per key of a lane.
CREATE FUNCTION make_lanes(p_lane int[], p_priority int[], p_scope text[], p_name text[])
RETURNS TABLE (lane int, lane_id bigint) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queue (scope, name)
    SELECT DISTINCT k.scope, k.name FROM unnest(p_scope, p_name) k(scope, name)
    WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.scope = k.scope AND q.name = k.name)
    ORDER BY k.scope, k.name
    ON CONFLICT (scope, name) DO NOTHING;
    INSERT INTO lane (keys, priority)
    SELECT DISTINCT s.keys, s.priority
    FROM (SELECT array_agg(q.id ORDER BY q.id) AS keys, min(u.priority)::smallint AS priority
          FROM unnest(p_lane, p_priority, p_scope, p_name) u(lane, priority, scope, name)
          JOIN queue q ON q.scope = u.scope AND q.name = u.name GROUP BY u.lane) s
    WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.keys = s.keys AND l.priority = s.priority)
    ORDER BY s.keys, s.priority
    ON CONFLICT (keys, priority) DO NOTHING;
    RETURN QUERY SELECT s.lane, l.id
    FROM (SELECT u.lane, array_agg(q.id ORDER BY q.id) AS keys, min(u.priority)::smallint AS priority
          FROM unnest(p_lane, p_priority, p_scope, p_name) u(lane, priority, scope, name)
          JOIN queue q ON q.scope = u.scope AND q.name = u.name GROUP BY u.lane) s
    JOIN lane l ON l.keys = s.keys AND l.priority = s.priority;
END $$;

-- Moves that the executor decides: end before it ran, cancel, give back, declare lost. Under the locks of all their keys.
-- attempt null: whatever the attempt. A cancel or deadline of what runs becomes `cancelling`: its worker ends it. What a
-- live lease holds is never declared lost. Zero rows is a value: somebody else already moved it.
CREATE FUNCTION decide(p_ids uuid[], p_attempts int[], p_targets status[], p_reason text) RETURNS move[]
LANGUAGE plpgsql AS $$
DECLARE
    moves move[];
BEGIN
    -- A statement of its own: what the next one reads must be younger than what this one waited for. In one statement the
    -- update would look for the status of before the wait, find nothing, and a cancel that met a claim would be lost.
    PERFORM 1 FROM execution e WHERE e.id = ANY(p_ids) ORDER BY e.id FOR UPDATE;
    WITH held AS (
        SELECT e.id, e.status AS source, e.seq, e.worker_id, NOT lease_lives(e.worker_id) AS lost
        FROM execution e WHERE e.id = ANY(p_ids)
    ), wanted AS (
        SELECT d.id, d.attempt, h.source, h.seq, h.worker_id, CASE
            WHEN h.source IN ('requested', 'scheduled') AND d.target IN ('cancelled', 'timed_out', 'failed') THEN d.target
            WHEN h.source = 'scheduled' AND d.target = 'requested' THEN d.target
            WHEN h.source = 'running' AND d.target IN ('cancelled', 'timed_out') THEN 'cancelling'
            WHEN h.source = 'running' AND h.lost AND d.target IN ('requested', 'abandoned') THEN d.target
            WHEN h.source = 'cancelling' AND h.lost AND d.target IN ('cancelled', 'timed_out') THEN d.target
            END AS target
        FROM unnest(p_ids, p_attempts, p_targets) d(id, attempt, target) JOIN held h ON h.id = d.id
    ), moved AS (
        UPDATE execution e
        SET status = w.target, moves = e.moves + 1, seq = NULL,
            losses = e.losses + (w.source = 'running' AND w.target <> 'cancelling')::int,
            worker_id = CASE WHEN w.target = 'requested' THEN NULL ELSE e.worker_id END,
            error = CASE WHEN w.target IN ('timed_out', 'failed', 'abandoned')
                         THEN jsonb_build_object('class', w.target, 'message', p_reason) ELSE e.error END,
            cancel_reason = CASE WHEN w.target IN ('cancelling', 'cancelled') THEN coalesce(e.cancel_reason, p_reason)
                                 ELSE e.cancel_reason END,
            finished_at = CASE WHEN is_terminal(w.target) THEN now() END
        FROM wanted w
        WHERE e.id = w.id AND e.kind = 'action' AND w.target IS NOT NULL AND e.status = w.source
          AND (w.attempt IS NULL OR e.attempt = w.attempt)
        RETURNING ROW(e.id, e.epoch, e.moves, w.source, e.status, e.attempt, e.action, e.parent_id, e.pool, e.lane_id,
                      w.seq, p_reason, NULL, w.worker_id)::move AS m, e.started_at
    ), lost AS (
        -- An attempt that ended with its worker is counted apart from one that failed.
        INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, error_text, started_at)
        SELECT (m).id, (m).attempt, 'lost', (m).worker_id, p_reason, started_at FROM moved
        WHERE (m).source IN ('running', 'cancelling') AND (m).target <> 'cancelling'
        ON CONFLICT (execution_id, attempt) DO NOTHING
    )
    SELECT array_agg(m) INTO moves FROM moved;
    -- A decided execution that waited leaves its lane; the next one becomes the head.
    DELETE FROM waiting w USING unnest(moves) m WHERE w.lane_id = m.lane_id AND w.seq = m.seq;
    UPDATE queue q SET waiting = q.waiting - d.n
    FROM (SELECT key, count(*)::int AS n FROM unnest(moves) m JOIN lane l ON l.id = m.lane_id CROSS JOIN unnest(l.keys) key
          WHERE m.seq IS NOT NULL GROUP BY key) d
    WHERE q.id = d.key;
    UPDATE lane l SET head_seq = h.seq, parked_on = CASE WHEN h.seq IS NULL THEN NULL ELSE l.parked_on END
    FROM (SELECT DISTINCT lane_id FROM unnest(moves) m WHERE m.seq IS NOT NULL) t
    LEFT JOIN LATERAL (SELECT w.seq FROM waiting w WHERE w.lane_id = t.lane_id ORDER BY w.seq LIMIT 1) h ON true
    WHERE l.id = t.lane_id AND l.head_seq IS DISTINCT FROM h.seq;
    RETURN moves;
END $$;

-- Release, enter, admit: the caller holds the row locks of all keys in p_locked. Hot keys may have gained room.
-- p_entering enter now; of what acceptance entered itself it tells the lanes, with their first number and their count.
CREATE FUNCTION admit_locked(p_locked int[], p_hot int[], p_ended uuid[], p_entering uuid[], p_entered_lane bigint[],
                             p_entered_first bigint[], p_entered_count int[], p_chunk int, p_actor text,
                             OUT messages message[], OUT more int[], OUT admitted int, OUT released int)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    hot int[] := p_hot;
    room int[];            -- per locked key, in the order of p_locked; unlimited is a large number
    pool boolean[];
    gate int[];            -- locked keys that count slots
    active_delta int[];
    waiting_delta int[];
    lanes bigint[] := '{}'; last_taken bigint[] := '{}'; blocked_by int[] := '{}'; stopped boolean[] := '{}';
    shut int[] := '{}';    -- keys that owe a lane with a key that is not locked: nobody may pass it
    took uuid[] := '{}'; took_lane bigint[] := '{}'; took_seq bigint[] := '{}';
    moves move[];
    quota int; spot int; at int; key int; full_key int; unknown boolean;
    r record;
BEGIN
    p_locked := ARRAY(SELECT DISTINCT k FROM unnest(p_locked) k ORDER BY k);
    active_delta := array_fill(0, ARRAY[cardinality(p_locked)]);
    waiting_delta := active_delta;
    admitted := 0; released := 0;

    FOR r IN
        WITH gone AS (
            DELETE FROM slot s USING execution e
            WHERE s.execution_id = ANY(p_ended || p_entering) AND e.id = s.execution_id AND s.key_id = ANY(p_locked)
              AND (e.status = 'requested' OR is_terminal(e.status))
            RETURNING s.key_id
        ) SELECT key_id, count(*)::int AS n FROM gone GROUP BY key_id
    LOOP
        at := array_position(p_locked, r.key_id);
        active_delta[at] := active_delta[at] - r.n;
        released := released + r.n;
        hot := hot || r.key_id;
    END LOOP;

    -- Into the lanes, at the end. The number is drawn under the key locks: it is the commit order.
    FOR r IN
        WITH due AS (
            SELECT e.id, e.lane_id FROM (SELECT i.id, min(i.n) AS n FROM unnest(p_entering) WITH ORDINALITY i(id, n) GROUP BY i.id) u
            JOIN execution e ON e.id = u.id JOIN lane l ON l.id = e.lane_id
            WHERE e.status = 'requested' AND e.seq IS NULL AND e.paused_at IS NULL
              AND (e.not_before IS NULL OR e.not_before <= now()) AND l.keys <@ p_locked
            ORDER BY u.n
        ), placed AS (
            INSERT INTO waiting (lane_id, seq, execution_id)
            SELECT due.lane_id, nextval('waiting_seq'), due.id FROM due RETURNING waiting.*
        ), numbered AS (
            UPDATE execution e SET seq = p.seq FROM placed p WHERE e.id = p.execution_id AND e.status = 'requested'
        ), cleared AS (
            DELETE FROM timer t USING placed p WHERE t.execution_id = p.execution_id AND t.kind = 'enter'
        )
        SELECT p.lane_id, min(p.seq) AS first, count(*)::int AS n, min(l.keys) AS keys
        FROM placed p JOIN lane l ON l.id = p.lane_id GROUP BY p.lane_id
        UNION ALL
        SELECT u.lane_id, u.first, u.n, l.keys
        FROM unnest(p_entered_lane, p_entered_first, p_entered_count) u(lane_id, first, n) JOIN lane l ON l.id = u.lane_id
    LOOP
        FOREACH key IN ARRAY r.keys LOOP
            at := array_position(p_locked, key);
            waiting_delta[at] := waiting_delta[at] + r.n;
        END LOOP;
        hot := hot || r.keys;
        UPDATE lane SET head_seq = r.first, parked_on = (SELECT q.id FROM queue q WHERE q.id = ANY(r.keys)
                                                         ORDER BY q.scope = 'pool', q.id LIMIT 1)
        WHERE id = r.lane_id AND head_seq IS NULL;
    END LOOP;

    -- lim null must be tested by CASE: greatest(null, 0) is 0.
    SELECT array_agg(CASE WHEN q.paused THEN 0 WHEN q.scope = 'pool' THEN pool_window(q.name)
                          WHEN q.lim IS NULL THEN 1000000000
                          ELSE greatest(0, q.lim - q.active - active_delta[u.n]) END ORDER BY u.n),
           array_agg(q.scope = 'pool' ORDER BY u.n),
           array_agg(q.id) FILTER (WHERE q.scope <> 'pool' AND q.gated)
    INTO room, pool, gate
    FROM unnest(p_locked) WITH ORDINALITY u(id, n) JOIN queue q ON q.id = u.id;
    hot := ARRAY(SELECT DISTINCT h FROM unnest(hot) h WHERE h = ANY(p_locked));
    SELECT least(p_chunk, coalesce(max(room[array_position(p_locked, h)]), 0)) INTO quota FROM unnest(hot) h;

    IF quota > 0 THEN
        FOR r IN
            WITH candidate AS MATERIALIZED (
                SELECT l.id, l.keys, l.priority, l.head_seq, l.parked_on
                FROM unnest(hot) h CROSS JOIN LATERAL (
                    SELECT * FROM lane WHERE parked_on = h AND head_seq IS NOT NULL
                    ORDER BY priority DESC, head_seq LIMIT 16 + p_chunk) l
                WHERE room[array_position(p_locked, h)] > 0
            )
            SELECT c.id AS lane_id, c.keys, c.parked_on, w.seq, w.execution_id
            FROM candidate c CROSS JOIN LATERAL (
                SELECT w.seq, w.execution_id FROM waiting w WHERE w.lane_id = c.id AND w.seq >= c.head_seq
                ORDER BY w.seq LIMIT quota) w
            ORDER BY c.priority DESC, w.seq
        LOOP
            EXIT WHEN admitted >= p_chunk;
            spot := array_position(lanes, r.lane_id);
            IF spot IS NULL THEN
                lanes := lanes || r.lane_id; last_taken := last_taken || (r.seq - 1);
                blocked_by := blocked_by || NULL::int; stopped := stopped || false;
                spot := cardinality(lanes);
            END IF;
            CONTINUE WHEN stopped[spot];
            full_key := NULL; unknown := false;
            FOREACH key IN ARRAY r.keys LOOP
                at := array_position(p_locked, key);
                IF at IS NULL THEN
                    unknown := true;
                ELSIF (room[at] <= 0 OR key = ANY(shut)) AND (full_key IS NULL OR pool[array_position(p_locked, full_key)]) THEN
                    full_key := key;  -- the pool is looked at last: park on it only when every other key has room
                END IF;
            END LOOP;
            IF full_key IS NOT NULL OR unknown THEN
                stopped[spot] := true; blocked_by[spot] := full_key;
                IF full_key IS NULL THEN
                    shut := shut || r.parked_on;
                END IF;
                CONTINUE;
            END IF;
            FOREACH key IN ARRAY r.keys LOOP
                at := array_position(p_locked, key);
                room[at] := room[at] - 1;
                waiting_delta[at] := waiting_delta[at] - 1;
                IF key = ANY(gate) THEN
                    active_delta[at] := active_delta[at] + 1;
                END IF;
            END LOOP;
            took := took || r.execution_id; took_lane := took_lane || r.lane_id; took_seq := took_seq || r.seq;
            last_taken[spot] := r.seq;
            admitted := admitted + 1;
        END LOOP;
    END IF;

    IF admitted > 0 THEN
        -- Requested rows move only under the locks of their keys, so the order of these row locks is free.
        WITH moved AS (
            UPDATE execution e
            SET status = 'scheduled', attempt = e.attempt + 1, moves = e.moves + 1, seq = NULL, not_before = NULL,
                scheduled_at = now(), worker_id = NULL, started_at = NULL
            FROM unnest(took, took_lane, took_seq) WITH ORDINALITY t(id, lane_id, seq, n)
            WHERE e.id = t.id AND e.status = 'requested' AND e.seq = t.seq
            RETURNING t.n, ROW(e.id, e.epoch, e.moves, 'requested', e.status, e.attempt, e.action, e.parent_id, e.pool,
                               t.lane_id, t.seq, NULL, NULL, NULL)::move AS m
        )
        SELECT array_agg(m ORDER BY n) INTO moves FROM moved;
        IF coalesce(cardinality(moves), 0) <> admitted THEN
            RAISE EXCEPTION 'a waiting execution moved without the locks of its keys' USING ERRCODE = 'assert_failure';
        END IF;
        DELETE FROM waiting w USING unnest(took_lane, took_seq) t(lane_id, seq) WHERE w.lane_id = t.lane_id AND w.seq = t.seq;
        INSERT INTO slot (execution_id, key_id)
        SELECT t.id, k FROM unnest(took, took_lane) t(id, lane_id) JOIN lane l ON l.id = t.lane_id CROSS JOIN unnest(l.keys) k
        WHERE k = ANY(gate);
        messages := record_moves(moves, 'executor', p_actor);
    END IF;

    UPDATE lane l
    SET head_seq = h.seq, parked_on = CASE WHEN h.seq IS NULL THEN NULL ELSE coalesce(s.blocked_by, l.parked_on) END
    FROM unnest(lanes, last_taken, blocked_by) s(id, last_taken, blocked_by)
    LEFT JOIN LATERAL (SELECT w.seq FROM waiting w WHERE w.lane_id = s.id AND w.seq > s.last_taken ORDER BY w.seq LIMIT 1) h ON true
    WHERE l.id = s.id AND (l.head_seq, l.parked_on)
          IS DISTINCT FROM (h.seq, CASE WHEN h.seq IS NULL THEN NULL ELSE coalesce(s.blocked_by, l.parked_on) END);

    -- Lanes that lost their head to an admission elsewhere keep their place; lanes parked on a key that never was full
    -- wait for it only if it is owed. Net changes, only rows that change.
    WITH parked AS (
        SELECT u.id, u.n, EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = u.id AND l.head_seq IS NOT NULL) AS any_lane
        FROM unnest(p_locked) WITH ORDINALITY u(id, n)
    ), changed AS (
        UPDATE queue q
        SET active = q.active + active_delta[p.n], waiting = q.waiting + waiting_delta[p.n],
            owed = p.any_lane AND room[p.n] > 0, gated = q.lim IS NOT NULL OR q.paused OR p.any_lane
        FROM parked p
        WHERE q.id = p.id
          AND (q.active, q.waiting, q.owed, q.gated)
              IS DISTINCT FROM (q.active + active_delta[p.n], q.waiting + waiting_delta[p.n],
                                p.any_lane AND room[p.n] > 0, q.lim IS NOT NULL OR q.paused OR p.any_lane)
    )
    SELECT array_agg(p.id) INTO more FROM parked p WHERE p.any_lane AND room[p.n] > 0;
END $$;

-- One function admits. Called after acceptance of due work, release, retry, hand-back, cancel, a deadline, a change of
-- a limit, and by the loops. p_decide: executions the executor moves (see decide); p_keys: keys that may have room.
-- `more` names keys that still have room and waiters: call again.
CREATE FUNCTION admit(p_ended uuid[], p_entering uuid[], p_decide uuid[], p_attempts int[], p_targets status[],
                      p_reason text, p_keys int[], p_chunk int, p_actor text,
                      OUT messages message[], OUT more int[], OUT admitted int, OUT released int, OUT decided uuid[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    touched int[];
    locked int[];
    moves move[];
    entering uuid[] := p_entering;
    ended uuid[] := p_ended;
    own message[];
BEGIN
    admitted := 0; released := 0; decided := '{}';
    -- Hint, no locks: a lane never changes after acceptance, and slots are only on keys of the lane.
    touched := p_keys || ARRAY(
        SELECT DISTINCT k FROM execution e JOIN lane l ON l.id = e.lane_id CROSS JOIN unnest(l.keys) k
        WHERE e.id = ANY(p_ended || p_entering || p_decide));
    -- Nothing limited, nobody waiting, nothing held: no lock at all.
    IF cardinality(p_entering) = 0 AND cardinality(p_decide) = 0
       AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = ANY(touched) AND q.gated)
       AND NOT EXISTS (SELECT 1 FROM slot s WHERE s.execution_id = ANY(p_ended)) THEN
        RETURN;
    END IF;
    -- Closure, no locks: the keys of the lanes that may go next.
    locked := ARRAY(
        SELECT DISTINCT k FROM (
            SELECT unnest(touched) AS k
            UNION ALL
            SELECT unnest(l.keys) FROM unnest(touched) t CROSS JOIN LATERAL (
                SELECT keys FROM lane WHERE parked_on = t AND head_seq IS NOT NULL
                ORDER BY priority DESC, head_seq LIMIT 16 + p_chunk) l) s
        ORDER BY k);
    PERFORM 1 FROM queue WHERE id = ANY(locked) ORDER BY id FOR UPDATE;
    IF cardinality(p_decide) > 0 THEN
        moves := decide(p_decide, p_attempts, p_targets, p_reason);
        own := record_moves(moves, 'executor', p_actor);
        decided := ARRAY(SELECT m.id FROM unnest(moves) m);
        ended := ended || decided;
        entering := entering || ARRAY(SELECT m.id FROM unnest(moves) m WHERE m.target = 'requested');
    END IF;
    SELECT a.messages, a.more, a.admitted, a.released INTO messages, more, admitted, released
    FROM admit_locked(locked, touched, ended, entering, '{}', '{}', '{}', p_chunk, p_actor) a;
    messages := own || messages;
END $$;

-- Acceptance: the row is committed. Parallel arrays, one element per request; p_error holds a refusal as JSON.
-- A known id or a held idempotency key is skipped and not returned: the caller compares and answers.
CREATE FUNCTION accept(p_id uuid[], p_action text[], p_version int[], p_pool text[], p_priority int[], p_lane bigint[],
                       p_params text[], p_hash bytea[], p_tags text[], p_not_before timestamptz[],
                       p_deadline timestamptz[], p_queue_timeout float8[], p_total_timeout float8[], p_error text[],
                       p_key text[], p_actor text,
                       OUT accepted uuid[], OUT messages message[], OUT more int[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    blocked uuid[] := '{}';   -- requests whose idempotency key somebody else holds
    gated bigint[];
    strong int[]; weak int[];
    moves move[];
    own message[];
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
    -- One pass in the order of ids. Unlimited keys are shared: only a first limit waits for us.
    FOR key IN SELECT k AS id FROM unnest(strong || weak) k ORDER BY k LOOP
        IF key.id = ANY(strong) THEN
            PERFORM 1 FROM queue WHERE id = key.id FOR UPDATE;
        ELSE
            PERFORM 1 FROM queue WHERE id = key.id FOR KEY SHARE;
        END IF;
    END LOOP;
    IF EXISTS (SELECT 1 FROM queue q WHERE q.id = ANY(weak) AND q.gated AND q.scope <> 'pool') THEN
        RAISE EXCEPTION 'a key was limited meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;

    SELECT array_agg(CASE
               WHEN u.error IS NOT NULL THEN 'failed'
               WHEN t.execution_id IS NOT NULL THEN 'cancelled'
               WHEN u.not_before > now() OR u.lane_id = ANY(gated) THEN 'requested'
               ELSE 'scheduled' END::status ORDER BY u.n),
           array_agg(t.reason ORDER BY u.n),
           array_agg(t.execution_id IS NULL AND u.error IS NULL AND u.lane_id = ANY(gated)
                     AND (u.not_before IS NULL OR u.not_before <= now()) ORDER BY u.n)
    INTO statuses, tombstones, waits
    FROM unnest(p_id, p_error, p_not_before, p_lane) WITH ORDINALITY u(id, error, not_before, lane_id, n)
    LEFT JOIN cancel_tombstone t ON t.execution_id = u.id AND t.expires_at > now();

    -- The number in the lane is drawn under the key locks, by priority and arrival: it is the commit order.
    IF true = ANY(waits) THEN
        SELECT array_agg(s.seq ORDER BY s.n) INTO seqs
        FROM (SELECT o.n, CASE WHEN o.waits THEN nextval('waiting_seq') END AS seq
              FROM (SELECT * FROM unnest(waits, p_priority) WITH ORDINALITY w(waits, priority, n)
                    ORDER BY w.priority DESC, w.n) o) s;
    END IF;

    WITH inserted AS (
        INSERT INTO execution (id, status, attempt, action, action_version, root_id, pool, priority, lane_id, seq,
                               params, request_hash, tags, error, cancel_reason, not_before, deadline, scheduled_at, finished_at)
        SELECT u.id, u.status, (u.status = 'scheduled')::int, u.action, u.version, u.id, u.pool, u.priority, u.lane_id,
               u.seq, u.params::jsonb, u.hash, u.tags::jsonb, u.error::jsonb, u.tombstone, u.not_before, u.deadline,
               CASE WHEN u.status = 'scheduled' THEN now() END, CASE WHEN is_terminal(u.status) THEN now() END
        FROM unnest(p_id, statuses, p_action, p_version, p_pool, p_priority, p_lane, p_params, p_hash, p_tags, p_error,
                    tombstones, p_not_before, p_deadline, seqs)
             u(id, status, action, version, pool, priority, lane_id, params, hash, tags, error, tombstone, not_before,
               deadline, seq)
        WHERE u.id <> ALL(blocked)
        ORDER BY u.id
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(id), '{}') INTO accepted FROM inserted;

    -- Joining the arrays again costs the square of the flush; with nothing known already there is nothing to filter.
    all_new := cardinality(accepted) = cardinality(p_id);
    SELECT array_agg(ROW(u.id, 1, 1, NULL, u.status, (u.status = 'scheduled')::int, u.action, NULL, u.pool, NULL, NULL,
                         coalesce(u.error::jsonb ->> 'message', u.tombstone), NULL, NULL)::move ORDER BY u.n)
    INTO moves
    FROM unnest(p_id, statuses, p_action, p_pool, p_error, tombstones)
         WITH ORDINALITY u(id, status, action, pool, error, tombstone, n)
    WHERE all_new OR u.id = ANY(accepted);

    IF p_key IS NOT NULL AND NOT all_new THEN
        -- A key whose id was known already is not spent.
        DELETE FROM idempotency_key k USING unnest(p_key, p_id) u(key, id)
        WHERE k.key = u.key AND u.id <> ALL(blocked) AND u.id <> ALL(accepted);
    END IF;
    DELETE FROM cancel_tombstone t WHERE t.execution_id = ANY(accepted);
    own := record_moves(moves, 'executor', p_actor);
    messages := own;
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
        SELECT own || a.messages, a.more INTO messages, more
        FROM admit_locked(strong, '{}', '{}', '{}', entered_lane, entered_first, entered_count, 500, p_actor) a;
    END IF;
END $$;

-- A limit or a pause, changed in place. The first limit of a key back-fills the slots of what is in flight, under the
-- key's lock; lowering drains; raising and removing owe the waiters an admission, which the caller starts.
CREATE FUNCTION set_limit(p_scope text, p_name text, p_lim int, p_paused boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    key queue;
    filled int := 0;
BEGIN
    INSERT INTO queue (scope, name) VALUES (p_scope, p_name) ON CONFLICT DO NOTHING;
    SELECT * INTO key FROM queue WHERE scope = p_scope AND name = p_name FOR UPDATE;
    IF (key.lim, key.paused) IS NOT DISTINCT FROM (p_lim, p_paused) THEN
        RETURN key.id;
    END IF;
    IF p_scope <> 'pool' THEN
        WITH put AS (
            INSERT INTO slot (execution_id, key_id)
            SELECT f.execution_id, key.id FROM in_flight f JOIN execution e ON e.id = f.execution_id
            JOIN lane l ON l.id = e.lane_id
            WHERE key.id = ANY(l.keys) AND e.status IN ('scheduled', 'running', 'cancelling')
            ON CONFLICT DO NOTHING RETURNING 1
        ) SELECT count(*) INTO filled FROM put;
    END IF;
    UPDATE queue q SET lim = p_lim, paused = p_paused, limited_at = clock_timestamp(), active = q.active + filled, gated = true,
                       owed = EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = q.id)
    WHERE q.id = key.id;
    RETURN key.id;
END $$;
