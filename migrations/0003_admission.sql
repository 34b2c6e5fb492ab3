-- Why: one function admits. Limits are exact because every change of a key's slots happens under the key's row lock,
-- room is read by a statement started after that lock, and the lock is held to the commit.
-- min_daemon: 0.1.0

-- Law 5. Handling twice equals handling once: a slot is released by deleting its row, so a duplicate finds nothing.
-- Locks are taken in one order: queue rows by id, then execution rows by id, then waiting, lane and slot (protected by
-- the key locks). A transaction locks keys once; a lane with a key it did not lock is left to the next call.
-- Law 7. A parent never holds what its children need: it takes keys of a scope of its own, which leaves cannot name, and
-- no place in a pool.

-- Where a wait falls in the table of waits: 0 for less than a millisecond, then one bucket per doubling.
CREATE FUNCTION wait_bucket(waited interval) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT least(40, greatest(0, 1 + floor(log(2, greatest(0.0001, extract(epoch FROM waited) * 1000)))))::smallint
$$;

-- What a rate still lets through now: GCRA, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm, with the
-- theoretical arrival time of the next admission.
CREATE FUNCTION rate_room(tat float8, every float8, burst int) RETURNS int LANGUAGE sql VOLATILE AS $$
    SELECT greatest(0, least(burst, floor(burst - (coalesce(tat, 0) - extract(epoch FROM clock_timestamp())) / every)))::int
$$;

-- Whether a claim can lead anywhere: not while a key of its lane is shut for longer than others hold it.
CREATE FUNCTION claim_stands(p_lane bigint) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT NOT EXISTS (
        SELECT 1 FROM lane l JOIN queue q ON q.id = ANY(l.keys)
        WHERE l.id = p_lane AND (q.paused OR q.lim = 0 OR q.wake_at > clock_timestamp()
                                 OR (q.scope = 'pool' AND live_workers(q.name) = 0)))
$$;

-- The lanes of these numbers, 1 to n, as an array; keys and lanes that do not exist yet are made. Runs before any other lock
-- of its transaction, in the order of names, so that two callers cannot wait for each other. One row per key of a lane, with
-- what its definition says of the key, which counts only when the key is made.
CREATE FUNCTION make_lanes(p_lane int[], p_priority int[], p_scope text[], p_name text[], p_template text[], p_lim int[],
                           p_cap int[], p_cap_policy text[], p_rate_every float8[], p_rate_burst int[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    wanted int := (SELECT count(DISTINCT u) FROM unnest(p_lane) u);
    found bigint[];
BEGIN
    FOR look IN 1..2 LOOP
        found := ARRAY(
            SELECT l.id
            FROM (SELECT u.lane, array_agg(q.id ORDER BY q.id) AS keys, min(u.priority)::smallint AS priority
                  FROM unnest(p_lane, p_priority, p_scope, p_name) u(lane, priority, scope, name)
                  -- LEFT: a key that is not there yet is a null, which no lane has.
                  LEFT JOIN queue q ON q.scope = u.scope AND q.name = u.name GROUP BY u.lane) s
            JOIN lane l ON l.keys = s.keys AND l.priority = s.priority ORDER BY s.lane);
        EXIT WHEN cardinality(found) = wanted;
        IF look = 2 THEN
            RAISE EXCEPTION 'a lane was forgotten meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
        INSERT INTO queue (scope, name, template, lim, cap, cap_policy, rate_every, rate_burst, gated)
        SELECT DISTINCT ON (k.scope, k.name) k.scope, k.name, k.template, k.lim, k.cap, coalesce(k.cap_policy, 'reject'),
               k.rate_every, coalesce(k.rate_burst, 1), k.lim IS NOT NULL OR k.rate_every IS NOT NULL
        FROM unnest(p_scope, p_name, p_template, p_lim, p_cap, p_cap_policy, p_rate_every, p_rate_burst)
             k(scope, name, template, lim, cap, cap_policy, rate_every, rate_burst)
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
    END LOOP;
    RETURN found;
END $$;

-- Why something is cancelled, by which its end is judged later: what begins with `timed_out` was a deadline, with `failed: `
-- a batch that gave up, whatever words somebody who cancels may choose.
CREATE FUNCTION cancel_reason_of(p_asked status, p_reason text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_asked = 'cancelled' AND (starts_with(p_reason, 'timed_out') OR starts_with(p_reason, 'failed: '))
                THEN 'cancelled: ' || p_reason ELSE p_reason END
$$;

-- Moves that the executor decides: end before it ran, cancel, give back, declare lost. Under the locks of all their keys.
-- attempt null: whatever the attempt; p_sources: only what stands at one of these, if any are named. A cancel or deadline of what runs becomes `cancelling`: its worker ends it. What a
-- live lease holds is never declared lost. Zero rows is a value: somebody else already moved it. p_class: of the error.
CREATE FUNCTION decide(p_ids uuid[], p_attempts int[], p_targets status[], p_reason text, p_class text DEFAULT NULL,
                       p_sources status[] DEFAULT '{}')
RETURNS move[] LANGUAGE plpgsql AS $$
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
        SELECT d.id, d.attempt, h.source, h.seq, h.worker_id, d.target AS asked, CASE
            WHEN h.source IN ('requested', 'scheduled') AND d.target IN ('cancelled', 'timed_out', 'failed') THEN d.target
            WHEN h.source = 'scheduled' AND d.target = 'requested' THEN d.target
            WHEN h.source = 'running' AND d.target IN ('cancelled', 'timed_out', 'cancelling') THEN 'cancelling'
            WHEN h.source = 'running' AND h.lost AND d.target IN ('requested', 'abandoned') THEN d.target
            WHEN h.source = 'cancelling' AND h.lost AND d.target IN ('cancelled', 'timed_out') THEN d.target
            END AS target
        FROM unnest(p_ids, p_attempts, p_targets) d(id, attempt, target) JOIN held h ON h.id = d.id
        WHERE p_sources = '{}' OR h.source = ANY(p_sources)
    ), moved AS (
        UPDATE execution e
        SET status = w.target, moves = e.moves + 1, seq = NULL,
            losses = e.losses + (w.source = 'running' AND w.target <> 'cancelling')::int,
            worker_id = CASE WHEN w.target = 'requested' THEN NULL ELSE e.worker_id END,
            error = CASE WHEN w.target IN ('timed_out', 'failed', 'abandoned')
                         THEN jsonb_build_object('class', coalesce(p_class, w.target::text), 'message', p_reason) ELSE e.error END,
            cancel_reason = CASE WHEN w.target IN ('cancelling', 'cancelled') THEN coalesce(e.cancel_reason, cancel_reason_of(w.asked, p_reason))
                                 ELSE e.cancel_reason END,
            finished_at = CASE WHEN is_terminal(w.target) THEN now() END
        FROM wanted w
        WHERE e.id BETWEEN w.id AND w.id AND (e.kind = 'action' OR w.source = 'requested' OR w.target = 'cancelling')
          AND w.target IS NOT NULL AND e.status = w.source
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
    PERFORM leave_lanes(moves);
    RETURN moves;
END $$;

-- A decided execution that waited leaves its lane; the next one becomes the head. Keys that its claim kept free for it
-- owe the others a look.
CREATE FUNCTION leave_lanes(p_moves move[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    DELETE FROM waiting w USING unnest(p_moves) m
    WHERE (w.lane_id, w.seq) BETWEEN (m.lane_id, m.seq) AND (m.lane_id, m.seq);
    WITH gone AS (
        SELECT k AS key_id, count(*)::int AS n, bool_or(q.claim_lane = m.lane_id AND q.claim_seq = m.seq) AS claimed
        FROM unnest(p_moves) m JOIN lane l ON l.id = m.lane_id CROSS JOIN unnest(l.keys) k JOIN queue q ON q.id = k
        WHERE m.seq IS NOT NULL GROUP BY k
    ), told AS (
        INSERT INTO queue_minute AS t (key_id, minute, event, bucket, n)
        SELECT g.key_id, date_trunc('minute', now()), 'cancelled', 0, g.n FROM gone g JOIN queue q ON q.id = g.key_id
        WHERE q.scope <> 'pool'
        ON CONFLICT ON CONSTRAINT queue_minute_pkey DO UPDATE SET n = t.n + excluded.n
    )
    UPDATE queue q SET waiting = q.waiting - g.n, owed = q.owed OR coalesce(g.claimed, false)
    FROM gone g WHERE q.id = g.key_id;
    UPDATE lane l
    SET head_seq = h.seq, parked_on = CASE WHEN h.seq IS NOT NULL THEN l.parked_on END, skips = 0,
        place = CASE WHEN h.seq IS NULL THEN 0 WHEN q.scope = 'pool' THEN l.place ELSE h.seq END
    FROM (SELECT DISTINCT lane_id FROM unnest(p_moves) m WHERE m.seq IS NOT NULL) t
    JOIN lane b ON b.id = t.lane_id JOIN queue q ON q.id = b.parked_on
    LEFT JOIN LATERAL (SELECT w.seq FROM waiting w WHERE w.lane_id = t.lane_id ORDER BY w.seq LIMIT 1) h ON true
    WHERE l.id = t.lane_id AND l.head_seq IS DISTINCT FROM h.seq;
END $$;

-- What was chosen moves: out of its lane, with a slot on each limited key. A parent starts by it; a leaf is dispatched.
CREATE FUNCTION move_admitted(p_ids uuid[], p_lanes bigint[], p_seqs bigint[], p_since timestamptz[], p_gates int[], p_actor text)
RETURNS message[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    moves move[];
BEGIN
    -- Requested rows move only under the locks of their keys, so the order of these row locks is free.
    WITH moved AS (
        UPDATE execution e
        SET status = CASE e.kind WHEN 'action' THEN 'scheduled' ELSE 'running' END::status,
            attempt = e.attempt + (e.kind = 'action')::int, moves = e.moves + 1, seq = NULL, not_before = NULL,
            scheduled_at = now(), worker_id = NULL, started_at = CASE WHEN e.kind <> 'action' THEN now() END
        FROM unnest(p_ids, p_lanes, p_seqs) WITH ORDINALITY t(id, lane_id, seq, n)
        WHERE e.id BETWEEN t.id AND t.id AND e.status = 'requested' AND e.seq = t.seq
        RETURNING t.n, ROW(e.id, e.epoch, e.moves, 'requested', e.status, e.attempt, e.action, e.parent_id, e.pool,
                           t.lane_id, t.seq, NULL, NULL, NULL)::move AS m
    )
    SELECT array_agg(m ORDER BY n) INTO moves FROM moved;
    IF coalesce(cardinality(moves), 0) <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'a waiting execution moved without the locks of its keys' USING ERRCODE = 'assert_failure';
    END IF;
    DELETE FROM waiting w USING unnest(p_lanes, p_seqs) t(lane_id, seq)
    WHERE (w.lane_id, w.seq) BETWEEN (t.lane_id, t.seq) AND (t.lane_id, t.seq);
    IF cardinality(p_gates) > 0 THEN
        INSERT INTO slot (execution_id, key_id)
        SELECT t.id, k FROM unnest(p_ids, p_lanes) t(id, lane_id) JOIN lane l ON l.id = t.lane_id CROSS JOIN unnest(l.keys) k
        WHERE k = ANY(p_gates);
        INSERT INTO queue_minute AS m (key_id, minute, event, bucket, n)
        SELECT k, date_trunc('minute', now()), 'admitted', wait_bucket(now() - t.since), count(*)
        FROM unnest(p_lanes, p_since) t(lane_id, since) JOIN lane l ON l.id = t.lane_id CROSS JOIN unnest(l.keys) k
        WHERE k = ANY(p_gates) GROUP BY 1, 4
        ON CONFLICT ON CONSTRAINT queue_minute_pkey DO UPDATE SET n = m.n + excluded.n;
    END IF;
    RETURN record_moves(moves, 'executor', p_actor);
END $$;

-- Slots of what has ended or waits again; the caller holds the locks of p_locked. Returns per key how many came back.
CREATE FUNCTION release_slots(p_locked int[], p_ids uuid[], OUT key_id int, OUT n int) RETURNS SETOF record
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    WITH gone AS (
        -- By execution, never by key: a key has as many slots as its limit.
        DELETE FROM slot s USING (SELECT DISTINCT unnest(p_ids) AS id) i JOIN execution e ON e.id BETWEEN i.id AND i.id
        WHERE s.execution_id BETWEEN i.id AND i.id AND p_locked[width_bucket(s.key_id, p_locked)] = s.key_id
          AND (e.status = 'requested' OR is_terminal(e.status))
        RETURNING s.key_id, is_terminal(e.status) AS ended
    ), told AS (
        INSERT INTO queue_minute AS m (key_id, minute, event, bucket, n)
        SELECT g.key_id, date_trunc('minute', now()), 'finished', 0, count(*) FROM gone g WHERE g.ended GROUP BY g.key_id
        ON CONFLICT ON CONSTRAINT queue_minute_pkey DO UPDATE SET n = m.n + excluded.n
    )
    SELECT g.key_id, count(*)::int FROM gone g GROUP BY g.key_id;
END $$;

-- Into the lanes, at the end. The number is drawn under the key locks: it is the commit order.
CREATE FUNCTION enter_lanes(p_locked int[], p_ids uuid[], OUT lane_id bigint, OUT first bigint, OUT n int) RETURNS SETOF record
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT e.id, e.lane_id FROM (SELECT i.id, min(i.n) AS n FROM unnest(p_ids) WITH ORDINALITY i(id, n) GROUP BY i.id) u
        JOIN execution e ON e.id BETWEEN u.id AND u.id JOIN lane l ON l.id = e.lane_id
        WHERE e.status = 'requested' AND e.seq IS NULL AND e.paused_at IS NULL
          AND (e.not_before IS NULL OR e.not_before <= now()) AND l.keys <@ p_locked
        ORDER BY u.n
    ), placed AS (
        INSERT INTO waiting (lane_id, seq, execution_id)
        SELECT due.lane_id, nextval('waiting_seq'), due.id FROM due RETURNING waiting.*
    ), numbered AS (
        UPDATE execution e SET seq = p.seq FROM placed p WHERE e.id BETWEEN p.execution_id AND p.execution_id AND e.status = 'requested'
    ), cleared AS (
        DELETE FROM timer t USING placed p WHERE t.execution_id BETWEEN p.execution_id AND p.execution_id AND t.kind = 'enter'
    )
    SELECT p.lane_id, min(p.seq), count(*)::int FROM placed p GROUP BY p.lane_id;
END $$;

-- Release, enter, admit: the caller holds the row locks of all keys in p_locked. Hot keys may have gained room.
-- p_entering enter now; of what acceptance entered itself it tells the lanes, with their first number and their count.
--
-- Two stages. First the lanes parked on keys, in the order (priority, number): each goes if every key of it has room, or
-- is parked on one that has none. Then the lanes parked on a pool's window, in the order (priority, turn, number): a turn
-- begins at the pool's present one and rises with each admission, so that a long lane does not bury a short one.
--
-- No head is overtaken for ever: one that found a second key full `patience` times claims its keys, and whoever is behind
-- it leaves one slot free there. The best claim of a key stands; it is void while a key of its lane is shut.
CREATE FUNCTION admit_locked(p_locked int[], p_hot int[], p_ended uuid[], p_entering uuid[], p_entered_lane bigint[],
                             p_entered_first bigint[], p_entered_count int[], p_chunk int, p_actor text,
                             OUT messages message[], OUT more int[], OUT admitted int, OUT released int)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    patience CONSTANT int := 3;
    unlimited CONSTANT int := 1000000000;
    hot int[] := p_hot;
    -- Per locked key, in the order of p_locked.
    room int[]; width int[]; is_pool boolean[]; is_gate boolean[]; turns bigint[];
    claimant bigint[]; claimant_prio int[]; claimant_seq bigint[]; reserved boolean[];
    active_delta int[]; waiting_delta int[];
    tokens int[]; took_tokens int[];  -- of a rate: read once, since time goes on while we work; null without one
    contested boolean[];       -- pools: others wait for the window, so whoever comes queues behind them
    horizon_prio int[]; horizon_place bigint[];  -- the last lane looked at: nobody behind it may pass those unseen
    shut boolean[];            -- owes a lane with a key that is not locked: nobody may pass it
    spent boolean[];           -- had no room for the best that asked, so none for those behind it
    owes boolean[];            -- has room and lanes that nobody looked at
    any_claim boolean;
    -- Per lane looked at in this stage.
    lanes bigint[]; last_taken bigint[]; taken int[]; blocked_by int[]; stopped boolean[]; skips int[];
    took uuid[] := '{}'; took_lane bigint[] := '{}'; took_seq bigint[] := '{}'; took_since timestamptz[] := '{}';
    candidates bigint[]; stage_hot int[]; moves move[];
    quota int; spot int; at int; key int; full_key int; full_at int; usable int; unknown boolean; cut boolean;
    r record;
BEGIN
    p_locked := ARRAY(SELECT DISTINCT k FROM unnest(p_locked) k ORDER BY k);
    active_delta := array_fill(0, ARRAY[cardinality(p_locked)]);
    waiting_delta := active_delta; took_tokens := active_delta;
    shut := array_fill(false, ARRAY[cardinality(p_locked)]);
    spent := shut; owes := shut; contested := shut;
    horizon_prio := array_fill(NULL::int, ARRAY[cardinality(p_locked)]);
    horizon_place := array_fill(NULL::bigint, ARRAY[cardinality(p_locked)]);
    admitted := 0; released := 0;

    FOR r IN SELECT * FROM release_slots(p_locked, p_ended || p_entering) LOOP
        at := width_bucket(r.key_id, p_locked);
        active_delta[at] := active_delta[at] - r.n;
        released := released + r.n;
        hot := hot || r.key_id;
    END LOOP;
    FOR r IN
        SELECT e.lane_id, e.first, e.n, l.keys
        FROM (SELECT * FROM enter_lanes(p_locked, p_entering) WHERE cardinality(p_entering) > 0
              UNION ALL SELECT * FROM unnest(p_entered_lane, p_entered_first, p_entered_count)) e(lane_id, first, n)
        JOIN lane l ON l.id = e.lane_id
    LOOP
        FOREACH key IN ARRAY r.keys LOOP
            at := width_bucket(key, p_locked);
            waiting_delta[at] := waiting_delta[at] + r.n;
        END LOOP;
        hot := hot || r.keys;
        UPDATE lane SET head_seq = r.first, place = r.first, skips = 0,
                        parked_on = (SELECT q.id FROM queue q WHERE q.id = ANY(r.keys) ORDER BY q.scope = 'pool', q.id LIMIT 1)
        WHERE id = r.lane_id AND head_seq IS NULL;
    END LOOP;

    -- What there is room for. lim null must be tested by CASE: greatest(null, 0) is 0.
    SELECT array_agg(CASE WHEN q.rate_every IS NOT NULL THEN rate_room(q.tat, q.rate_every, q.rate_burst) END ORDER BY u.n)
    INTO tokens FROM unnest(p_locked) WITH ORDINALITY u(id, n) JOIN queue q ON q.id = u.id;
    SELECT array_agg(CASE WHEN q.paused THEN 0 WHEN q.scope = 'pool' THEN pool_window(q.name)
                          ELSE least(CASE WHEN q.lim IS NULL THEN unlimited
                                          ELSE greatest(0, q.lim - q.active - active_delta[u.n]) END,
                                     coalesce(tokens[u.n], unlimited)) END ORDER BY u.n),
           array_agg(CASE WHEN q.scope = 'pool' THEN unlimited + 1 ELSE coalesce(q.lim, unlimited) END ORDER BY u.n),
           array_agg(q.scope = 'pool' ORDER BY u.n),
           array_agg(q.scope <> 'pool' AND q.gated ORDER BY u.n),
           array_agg(q.turn ORDER BY u.n),
           array_agg(l.id ORDER BY u.n), array_agg(q.claim_prio ORDER BY u.n), array_agg(q.claim_seq ORDER BY u.n),
           array_agg(l.id IS NOT NULL AND claim_stands(l.id) ORDER BY u.n),
           coalesce(bool_or(l.id IS NOT NULL), false),
           hot || coalesce(array_agg(q.id) FILTER (
               WHERE q.owed OR q.wake_at IS NOT NULL
                  OR (q.claim_lane IS NOT NULL AND (l.id IS NULL OR NOT claim_stands(l.id)))), '{}')
    INTO room, width, is_pool, is_gate, turns, claimant, claimant_prio, claimant_seq, reserved, any_claim, hot
    FROM unnest(p_locked) WITH ORDINALITY u(id, n) JOIN queue q ON q.id = u.id
    -- A claim is of one head: when that has gone, the claim has, too. Its lane has this key, so it cannot change now.
    LEFT JOIN lane l ON l.id = q.claim_lane AND l.head_seq = q.claim_seq;
    hot := ARRAY(SELECT DISTINCT h FROM unnest(hot) h WHERE p_locked[width_bucket(h, p_locked)] = h);

    FOR stage IN 1..2 LOOP
        stage_hot := ARRAY(SELECT DISTINCT h FROM unnest(hot) h
                           WHERE is_pool[width_bucket(h, p_locked)] = (stage = 2) AND room[width_bucket(h, p_locked)] > 0);
        CONTINUE WHEN cardinality(stage_hot) = 0;
        candidates := '{}';
        FOR r IN
            SELECT h, l.ids, l.priority, l.place, l.n FROM unnest(stage_hot) h CROSS JOIN LATERAL (
                SELECT array_agg(c.id) AS ids, (array_agg(c.priority))[count(*)] AS priority,
                       (array_agg(c.place))[count(*)] AS place, count(*) AS n
                FROM (SELECT id, priority, place FROM lane WHERE parked_on = h AND head_seq IS NOT NULL
                      ORDER BY priority DESC, place, head_seq
                      LIMIT 16 + least(p_chunk, room[width_bucket(h, p_locked)])) c) l
            WHERE l.n > 0
        LOOP
            candidates := candidates || r.ids;
            at := width_bucket(r.h, p_locked);
            IF r.n = 16 + least(p_chunk, room[at]) THEN
                horizon_prio[at] := r.priority; horizon_place[at] := r.place;
            END IF;
        END LOOP;
        CONTINUE WHEN cardinality(candidates) = 0;
        IF stage = 1 THEN
            SELECT array_agg(is_pool[u.n] AND EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = u.id AND l.head_seq IS NOT NULL)
                             ORDER BY u.n)
            INTO contested FROM unnest(p_locked) WITH ORDINALITY u(id, n);
        END IF;
        SELECT least(p_chunk, max(room[width_bucket(h, p_locked)]), 2 + 2 * p_chunk / cardinality(candidates)) INTO quota
        FROM unnest(stage_hot) h;
        lanes := '{}'; last_taken := '{}'; taken := '{}'; blocked_by := '{}'; stopped := '{}'; skips := '{}';
        cut := false;

        FOR r IN
            SELECT l.id AS lane_id, l.keys, l.priority, l.parked_on, l.skips, w.seq, w.execution_id, w.since, w.n,
                   CASE stage WHEN 1 THEN w.seq ELSE l.place + w.n - 1 END AS place
            FROM unnest(candidates) c JOIN lane l ON l.id = c CROSS JOIN LATERAL (
                SELECT h.*, row_number() OVER () AS n
                FROM (SELECT seq, execution_id, since FROM waiting WHERE lane_id = l.id AND seq >= l.head_seq
                      ORDER BY seq LIMIT quota) h) w
            ORDER BY l.priority DESC, place, w.seq
        LOOP
            IF admitted >= p_chunk OR cut THEN
                cut := true;
                EXIT;
            END IF;
            spot := array_position(lanes, r.lane_id);
            IF spot IS NULL THEN
                lanes := lanes || r.lane_id; last_taken := last_taken || (r.seq - 1); taken := taken || 0;
                blocked_by := blocked_by || NULL::int; stopped := stopped || false; skips := skips || r.skips;
                spot := cardinality(lanes);
            END IF;
            CONTINUE WHEN stopped[spot];
            full_key := NULL; unknown := false;
            FOREACH key IN ARRAY r.keys LOOP
                at := width_bucket(key, p_locked);
                IF at = 0 OR p_locked[at] <> key THEN
                    unknown := true;
                    CONTINUE;
                END IF;
                usable := room[at];
                IF any_claim AND reserved[at] AND claimant[at] <> r.lane_id
                   AND (r.priority < claimant_prio[at] OR (r.priority = claimant_prio[at] AND r.seq > claimant_seq[at])) THEN
                    usable := usable - 1;
                END IF;
                IF usable <= 0 OR shut[at] OR (stage = 1 AND contested[at])
                   OR (horizon_prio[at] IS NOT NULL AND is_pool[at] = (stage = 2)
                       AND (r.priority < horizon_prio[at] OR (r.priority = horizon_prio[at] AND r.place > horizon_place[at]))) THEN
                    -- Of several, the narrowest: it is asked least in vain. A pool only when every key has room.
                    IF full_key IS NULL OR width[at] < width[full_at] THEN
                        full_key := key; full_at := at;
                    END IF;
                END IF;
            END LOOP;
            IF full_key IS NULL AND unknown THEN
                at := width_bucket(r.parked_on, p_locked);
                shut[at] := true; owes[at] := true; stopped[spot] := true;
                CONTINUE;
            END IF;
            IF full_key IS NOT NULL THEN
                stopped[spot] := true; blocked_by[spot] := full_key;
                IF full_key = r.parked_on THEN
                    spent[full_at] := room[full_at] - reserved[full_at]::int <= 0;
                ELSIF is_pool[full_at] THEN
                    hot := hot || full_key;
                ELSIF NOT unknown AND (SELECT count(*) FROM unnest(r.keys) k WHERE is_gate[width_bucket(k, p_locked)]) > 1 THEN
                    skips[spot] := skips[spot] + 1;
                    IF skips[spot] >= patience AND claim_stands(r.lane_id) THEN
                        FOREACH key IN ARRAY r.keys LOOP
                            at := width_bucket(key, p_locked);
                            IF is_gate[at] AND (claimant[at] IS NULL OR NOT reserved[at] OR r.priority > claimant_prio[at]
                               OR (r.priority = claimant_prio[at] AND r.seq <= claimant_seq[at])) THEN
                                claimant[at] := r.lane_id; claimant_prio[at] := r.priority; claimant_seq[at] := r.seq;
                                reserved[at] := true; any_claim := true;
                            END IF;
                        END LOOP;
                    END IF;
                END IF;
                CONTINUE;
            END IF;
            FOREACH key IN ARRAY r.keys LOOP
                at := width_bucket(key, p_locked);
                room[at] := room[at] - 1;
                waiting_delta[at] := waiting_delta[at] - 1;
                took_tokens[at] := took_tokens[at] + 1;
                IF is_gate[at] THEN
                    active_delta[at] := active_delta[at] + 1;
                END IF;
                IF claimant[at] = r.lane_id THEN
                    claimant[at] := NULL; reserved[at] := false;
                    owes[at] := owes[at] OR room[at] > 0;  -- what it kept free of a rate may have become more meanwhile
                END IF;
                IF stage = 2 AND is_pool[at] THEN
                    turns[at] := greatest(turns[at], r.place);
                END IF;
            END LOOP;
            took := took || r.execution_id; took_lane := took_lane || r.lane_id;
            took_seq := took_seq || r.seq; took_since := took_since || r.since;
            last_taken[spot] := r.seq; taken[spot] := taken[spot] + 1; skips[spot] := 0;
            admitted := admitted + 1;
            -- The next of this lane was not fetched: its place among the others is not known.
            cut := r.n = quota AND room[width_bucket(r.parked_on, p_locked)] > 0;
        END LOOP;

        FOREACH key IN ARRAY stage_hot LOOP
            at := width_bucket(key, p_locked);
            owes[at] := owes[at] OR (room[at] > 0 AND NOT spent[at] AND (cut OR horizon_prio[at] IS NOT NULL));
        END LOOP;
        UPDATE lane l
        SET head_seq = n.head_seq, parked_on = n.parked_on, skips = n.skips, place = n.place, turn = n.turn
        FROM (
            SELECT s.id, h.seq AS head_seq, CASE WHEN h.seq IS NOT NULL THEN p.parked_on END AS parked_on, s.skips, p.turn,
                   CASE WHEN h.seq IS NULL THEN 0
                        WHEN NOT is_pool[width_bucket(p.parked_on, p_locked)] THEN h.seq
                        WHEN p.parked_on = b.parked_on THEN p.turn
                        ELSE greatest(p.turn, turns[width_bucket(p.parked_on, p_locked)]) END AS place
            FROM unnest(lanes, last_taken, taken, blocked_by, skips) s(id, last_taken, taken, blocked_by, skips)
            JOIN lane b ON b.id = s.id
            CROSS JOIN LATERAL (SELECT coalesce(s.blocked_by, b.parked_on) AS parked_on,
                                       CASE stage WHEN 2 THEN b.place + s.taken ELSE b.turn END AS turn) p
            LEFT JOIN LATERAL (SELECT w.seq FROM waiting w WHERE w.lane_id = s.id AND w.seq > s.last_taken
                               ORDER BY w.seq LIMIT 1) h ON true) n
        WHERE l.id = n.id AND (l.head_seq, l.parked_on, l.skips, l.place, l.turn)
              IS DISTINCT FROM (n.head_seq, n.parked_on, n.skips, n.place, n.turn);
    END LOOP;

    IF admitted > 0 THEN
        messages := move_admitted(took, took_lane, took_seq, took_since,
                                  ARRAY(SELECT k FROM unnest(p_locked, is_gate) g(k, gate) WHERE gate), p_actor);
    END IF;

    -- Net changes, only rows that change.
    WITH next AS (
        SELECT q.id, q.active + active_delta[u.n] AS active, q.waiting + waiting_delta[u.n] AS waiting,
               a.lane AND owes[u.n] AS owed,
               q.lim IS NOT NULL OR q.paused OR q.rate_every IS NOT NULL OR a.lane AS gated, t.tat,
               CASE WHEN q.rate_every IS NOT NULL AND a.lane AND NOT q.paused AND q.lim IS DISTINCT FROM 0
                         AND tokens[u.n] <= took_tokens[u.n]
                    THEN to_timestamp(t.tat - (q.rate_burst - 1) * q.rate_every) END AS wake_at,
               claimant[u.n] AS claim_lane, CASE WHEN claimant[u.n] IS NOT NULL THEN claimant_prio[u.n] END AS claim_prio,
               CASE WHEN claimant[u.n] IS NOT NULL THEN claimant_seq[u.n] END AS claim_seq, turns[u.n] AS turn
        FROM unnest(p_locked) WITH ORDINALITY u(id, n) JOIN queue q ON q.id = u.id
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = u.id AND l.head_seq IS NOT NULL) AS lane) a
        CROSS JOIN LATERAL (SELECT CASE WHEN q.rate_every IS NULL OR took_tokens[u.n] = 0 THEN q.tat
                                        ELSE greatest(coalesce(q.tat, 0), extract(epoch FROM clock_timestamp()))
                                             + took_tokens[u.n] * q.rate_every END AS tat) t
    ), changed AS (
        UPDATE queue q
        SET active = n.active, waiting = n.waiting, owed = n.owed, gated = n.gated, tat = n.tat, wake_at = n.wake_at,
            claim_lane = n.claim_lane, claim_prio = n.claim_prio, claim_seq = n.claim_seq, turn = n.turn
        FROM next n
        WHERE q.id = n.id
          AND (q.active, q.waiting, q.owed, q.gated, q.tat, q.wake_at, q.claim_lane, q.claim_prio, q.claim_seq, q.turn)
              IS DISTINCT FROM
              (n.active, n.waiting, n.owed, n.gated, n.tat, n.wake_at, n.claim_lane, n.claim_prio, n.claim_seq, n.turn)
    )
    SELECT array_agg(n.id) FILTER (WHERE n.owed) INTO more FROM next n;
END $$;

-- One function admits. Called after acceptance of due work, release, retry, hand-back, cancel, a deadline, a change of
-- a limit, and by the loops. p_decide, p_sources: executions the executor moves, and from where (see decide); p_keys: keys
-- that may have room.
-- `more` names keys that still have room and waiters: call again.
CREATE FUNCTION admit(p_ended uuid[], p_entering uuid[], p_decide uuid[], p_attempts int[], p_targets status[],
                      p_reason text, p_keys int[], p_chunk int, p_actor text, p_sources status[] DEFAULT '{}',
                      OUT messages message[], OUT more int[], OUT admitted int, OUT released int, OUT decided uuid[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    touched int[];
    locked int[];
    looked int;
    moves move[];
    entering uuid[] := p_entering;
    ended uuid[] := p_ended;
    own message[];
BEGIN
    admitted := 0; released := 0; decided := '{}';
    -- Hint, no locks: a lane never changes after acceptance, and slots are only on keys of the lane.
    touched := p_keys || ARRAY(
        SELECT DISTINCT k
        FROM (SELECT DISTINCT lane_id FROM execution WHERE id = ANY(p_ended || p_entering || p_decide)) e
        JOIN lane l ON l.id = e.lane_id CROSS JOIN unnest(l.keys) k);
    -- Nothing limited, nobody waiting, nothing held: no lock at all.
    IF cardinality(p_entering) = 0 AND cardinality(p_decide) = 0
       AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = ANY(touched) AND q.gated)
       AND NOT EXISTS (SELECT 1 FROM slot s WHERE s.execution_id = ANY(p_ended)) THEN
        RETURN;
    END IF;
    -- Closure, no locks: the keys of the lanes that may go next.
    looked := 16 + CASE WHEN cardinality(p_keys) > 0 THEN p_chunk
                        ELSE least(p_chunk, cardinality(p_ended || p_entering || p_decide)) END;
    locked := ARRAY(
        SELECT DISTINCT k FROM (
            SELECT unnest(touched) AS k
            UNION ALL
            SELECT unnest(l.keys) FROM unnest(touched) t CROSS JOIN LATERAL (
                SELECT keys FROM lane WHERE parked_on = t AND head_seq IS NOT NULL
                ORDER BY priority DESC, place, head_seq LIMIT looked) l) s
        ORDER BY k);
    locked := ARRAY(SELECT id FROM queue WHERE id = ANY(locked) ORDER BY id FOR NO KEY UPDATE);
    IF cardinality(p_decide) > 0 THEN
        moves := decide(p_decide, p_attempts, p_targets, p_reason, NULL, p_sources);
        own := record_moves(moves, 'executor', p_actor);
        decided := ARRAY(SELECT m.id FROM unnest(moves) m);
        ended := ended || decided;
        entering := entering || ARRAY(SELECT m.id FROM unnest(moves) m WHERE m.target = 'requested');
    END IF;
    SELECT a.messages, a.more, a.admitted, a.released INTO messages, more, admitted, released
    FROM admit_locked(locked, touched, ended, entering, '{}', '{}', '{}', p_chunk, p_actor) a;
    messages := own || messages;
    PERFORM count_ends(moves);
END $$;
