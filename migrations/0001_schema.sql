-- Why: the tables, types and guards on which everything stands. Names are public: operators query them.
-- min_daemon: 0.1.0

CREATE TYPE status AS ENUM ('requested', 'scheduled', 'running', 'cancelling', 'completed', 'partial', 'failed',
                            'timed_out', 'cancelled', 'abandoned', 'skipped');

-- Registered definitions. A version never changes: executions pin one.
CREATE TABLE action (
    name         text        NOT NULL,
    version      int         NOT NULL,
    definition   jsonb       NOT NULL,
    checksum     text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    PRIMARY KEY (name, version)
);

-- Everything that runs is a row here. No index on status: it would make every status update non-HOT. What waits and
-- what is in flight have narrow tables of their own. What hardly ever changes comes first: the log then holds of an update
-- only what is behind it.
CREATE TABLE execution (
    id             uuid        PRIMARY KEY,
    root_id        uuid        NOT NULL,
    parent_id      uuid,
    requested_at   timestamptz NOT NULL DEFAULT now(),
    deadline       timestamptz,
    lane_id        bigint,
    action_version int,
    priority       smallint    NOT NULL DEFAULT 0,
    kind           text        NOT NULL DEFAULT 'action' CHECK (kind IN ('action', 'workflow', 'batch')),
    action         text        NOT NULL,
    pool           text        NOT NULL,
    child_key      text,
    params         jsonb       NOT NULL DEFAULT '{}',
    request_hash   bytea       NOT NULL,
    tags           jsonb       NOT NULL DEFAULT '[]',
    status         status      NOT NULL,
    attempt        int         NOT NULL DEFAULT 0,  -- the fence: raised by each move to scheduled, by nothing else
    failures       int         NOT NULL DEFAULT 0,
    losses         int         NOT NULL DEFAULT 0,
    moves          int         NOT NULL DEFAULT 1,  -- numbers the transitions
    epoch          int         NOT NULL DEFAULT 1,
    seq            bigint,                          -- place in the lane while it waits; null otherwise
    worker_id      uuid,
    superseded_by  uuid,
    not_before     timestamptz,
    paused_at      timestamptz,
    scheduled_at   timestamptz,
    started_at     timestamptz,
    finished_at    timestamptz,
    result         jsonb,
    error          jsonb,
    cancel_reason  text
) WITH (fillfactor = 33, autovacuum_vacuum_scale_factor = 0.05);  -- room for two versions each: 98 % stay HOT, 86 at 45

-- What has no parent, for lists: a batch of a million partitions must not stand between what is newest. What it is about never
-- changes, so updates stay HOT.
CREATE INDEX execution_root ON execution (id) WHERE parent_id IS NULL;

-- The guard. The WHEN clause is generated from TRANSITIONS in interlock/contract/status.py; a test proves them equal.
-- AFTER, as it changes nothing: a BEFORE trigger locks each row once more, and writes that down.
CREATE FUNCTION refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'illegal move of % %: % to %', old.kind, old.id, old.status, new.status
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER execution_move_guard AFTER UPDATE OF status ON execution FOR EACH ROW
    WHEN (NOT CASE old.status
    WHEN 'requested' THEN (old.kind = 'action' AND new.status IN ('cancelled', 'failed', 'scheduled', 'timed_out')) OR (old.kind <> 'action' AND new.status IN ('cancelled', 'failed', 'running', 'timed_out'))
    WHEN 'scheduled' THEN (old.kind = 'action' AND new.status IN ('cancelled', 'failed', 'requested', 'running', 'timed_out'))
    WHEN 'running' THEN (old.kind = 'action' AND new.status IN ('abandoned', 'cancelling', 'completed', 'failed', 'partial', 'requested', 'skipped', 'timed_out')) OR (old.kind <> 'action' AND new.status IN ('cancelling', 'completed', 'failed', 'partial', 'skipped', 'timed_out'))
    WHEN 'cancelling' THEN (old.kind = 'action' AND new.status IN ('abandoned', 'cancelled', 'completed', 'failed', 'partial', 'skipped', 'timed_out')) OR (old.kind <> 'action' AND new.status IN ('abandoned', 'cancelled', 'completed', 'failed', 'partial', 'skipped', 'timed_out'))
    WHEN 'completed' THEN (old.kind <> 'action' AND new.status IN ('running'))
    WHEN 'partial' THEN (old.kind <> 'action' AND new.status IN ('running'))
    WHEN 'failed' THEN (old.kind <> 'action' AND new.status IN ('running'))
    WHEN 'timed_out' THEN (old.kind <> 'action' AND new.status IN ('running'))
    WHEN 'cancelled' THEN (old.kind <> 'action' AND new.status IN ('running'))
    WHEN 'abandoned' THEN (old.kind <> 'action' AND new.status IN ('running'))
    WHEN 'skipped' THEN (old.kind <> 'action' AND new.status IN ('running'))
    END)
    EXECUTE FUNCTION refuse_move();

-- One narrow row per scheduled, running or cancelling leaf.
CREATE TABLE in_flight (
    execution_id uuid        PRIMARY KEY,
    pool         text        NOT NULL,
    attempt      int         NOT NULL,
    parent_id    uuid,                               -- what of a batch is in flight is counted here
    worker_id    uuid,
    since        timestamptz NOT NULL DEFAULT now(),
    forced       boolean     NOT NULL DEFAULT false  -- its cancel grants it no grace
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
-- Not partial, and none on worker_id: a claim must stay a HOT update, and the table is as small as the windows.
CREATE INDEX in_flight_oldest ON in_flight (pool, since);

-- What falls due: enter (a lane), queue, run, total. Durable, so that a restart forgets nothing.
CREATE TABLE timer (
    execution_id uuid        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('enter', 'queue', 'run', 'total')),
    due          timestamptz NOT NULL,
    PRIMARY KEY (execution_id, kind)
);
CREATE INDEX timer_due ON timer (due);

-- History: append-only, written by the statement that moves the row.
CREATE SEQUENCE transition_position;
CREATE TABLE execution_transition (
    execution_id uuid        NOT NULL,
    move         int         NOT NULL,
    position     bigint      NOT NULL DEFAULT nextval('transition_position'),
    source       status,
    target       status      NOT NULL,
    attempt      int         NOT NULL,
    epoch        int         NOT NULL,
    actor        text        NOT NULL,
    reason       text,
    lane_id      bigint,  -- for moves to scheduled out of a lane: where it stood, to prove the order
    seq          bigint,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, move)
) PARTITION BY RANGE (execution_id);

CREATE TABLE execution_attempt (
    execution_id uuid        NOT NULL,
    attempt      int         NOT NULL,
    outcome      text        NOT NULL,
    worker_id    uuid        NOT NULL,
    error_class  text,
    error_text   text,
    fingerprint  text,
    exit_code    int,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, attempt)
) PARTITION BY RANGE (execution_id);

CREATE TABLE execution_log (
    execution_id uuid        NOT NULL,
    attempt      int         NOT NULL,
    number       int         NOT NULL,
    stream       text        NOT NULL CHECK (stream IN ('stdout', 'stderr', 'log', 'mark')),
    line         text        NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (execution_id, attempt, number)
) PARTITION BY RANGE (execution_id);

CREATE TABLE execution_transition_rest PARTITION OF execution_transition DEFAULT;
CREATE TABLE execution_attempt_rest PARTITION OF execution_attempt DEFAULT;
CREATE TABLE execution_log_rest PARTITION OF execution_log DEFAULT;

-- The smallest UUIDv7 of a point in time: a partition bound.
CREATE FUNCTION uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (rpad(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0'))::uuid
$$;

-- Weekly partitions, made ahead; what fits none goes to the default partition. Idempotent: any process may call it.
CREATE FUNCTION make_partitions(weeks_ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    history text;
    week timestamptz;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('interlock.partitions'));
    FOREACH history IN ARRAY ARRAY['execution_transition', 'execution_attempt', 'execution_log'] LOOP
        FOR offset_weeks IN 0..weeks_ahead LOOP
            week := date_trunc('week', now(), 'UTC') + offset_weeks * interval '7 days';
            CONTINUE WHEN to_regclass(format('%s_%s', history, to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW'))) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                               format('%s_%s', history, to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW')), history,
                               uuid_floor(week), uuid_floor(week + interval '7 days'));
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;  -- After a long silence the default partition got rows of this week first: they stay there.
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
SELECT make_partitions(4);

-- One row per concurrency key. scope: leaf (actions and their groups), parent, pool (the soft window of a worker pool).
CREATE TABLE queue (
    id         int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope      text        NOT NULL CHECK (scope IN ('leaf', 'parent', 'pool')),
    name       text        NOT NULL,
    lim        int         CHECK (lim >= 0),          -- null: unlimited; 0: closed
    paused     boolean     NOT NULL DEFAULT false,
    cap        int         CHECK (cap >= 0),          -- how many may wait; null: any number
    cap_policy text        NOT NULL DEFAULT 'reject' CHECK (cap_policy IN ('reject', 'drop_oldest')),
    rate_every float8      CHECK (rate_every > 0),    -- seconds from one admission to the next; null: no rate
    rate_burst int         NOT NULL DEFAULT 1 CHECK (rate_burst > 0),
    template   text,                                  -- as the definition names it; null: a person or a request named it
    kept       boolean     NOT NULL DEFAULT false,    -- a person set something here: not forgotten while idle
    gated      boolean     NOT NULL DEFAULT false,    -- has a limit, a rate or waiters: admission takes its lock
    owed       boolean     NOT NULL DEFAULT false,    -- has room and waiters: somebody must call on
    active     int         NOT NULL DEFAULT 0 CHECK (active >= 0),
    waiting    int         NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    tat        float8,                                -- GCRA: the theoretical arrival time of the next, in epoch seconds
    wake_at    timestamptz,                           -- when a rate lets the next waiter go
    claim_lane bigint,                                -- the head that others may not overtake here any more
    claim_prio smallint,
    claim_seq  bigint,
    turn       bigint      NOT NULL DEFAULT 0,        -- of a pool: whose turn it is
    created_at timestamptz NOT NULL DEFAULT now(),
    limited_at timestamptz NOT NULL DEFAULT now(),    -- when the limit last changed: what is over it must be older
    UNIQUE (scope, name)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE INDEX queue_owed ON queue (id) WHERE owed;
CREATE INDEX queue_wake ON queue (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX queue_claim ON queue (id) WHERE claim_lane IS NOT NULL;

-- A lane is a distinct set of keys and a priority: strictly first in, first out. A blocked lane is parked on one key.
CREATE TABLE lane (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    keys       int[]       NOT NULL,
    priority   smallint    NOT NULL,
    head_seq   bigint,
    parked_on  int,
    place      bigint      NOT NULL DEFAULT 0,  -- among the lanes parked there: of a pool the turn, else head_seq
    skips      int         NOT NULL DEFAULT 0,  -- how often its head was passed over
    turn       bigint      NOT NULL DEFAULT 0,  -- its next turn at its pool
    idle_since timestamptz,
    UNIQUE (keys, priority),
    CHECK ((head_seq IS NULL) = (parked_on IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE INDEX lane_parked ON lane (parked_on, priority DESC, place, head_seq) WHERE head_seq IS NOT NULL;

CREATE SEQUENCE waiting_seq;
CREATE TABLE waiting (
    lane_id      bigint      NOT NULL,
    seq          bigint      NOT NULL,
    execution_id uuid        NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (lane_id, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- What went through each key's queue, per minute. Written under the key's lock; old minutes are folded into one.
CREATE TABLE queue_minute (
    key_id int         NOT NULL,
    minute timestamptz NOT NULL,
    event  text        NOT NULL CHECK (event IN ('admitted', 'finished', 'cancelled')),
    bucket smallint    NOT NULL,  -- of an admission: how long it waited (wait_bucket); otherwise 0
    n      bigint      NOT NULL,
    PRIMARY KEY (key_id, minute, event, bucket)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE slot (
    execution_id uuid        NOT NULL,
    key_id       int         NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, key_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX slot_key ON slot (key_id);

-- Law 4. Nothing is published that is not committed; nothing committed is left unpublished. One row is one message.
CREATE TABLE outbox (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role          text        NOT NULL CHECK (role IN ('executor', 'worker')),
    exchange      text        NOT NULL,
    routing_key   text        NOT NULL,
    events        int         NOT NULL,
    body          text        NOT NULL,
    claimed_until timestamptz,
    tries         int         NOT NULL DEFAULT 0,
    error         text,
    created_at    timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
-- A message lives for milliseconds: pglz took twenty times as long to compress it as the rest of writing it. lz4 is nearly
-- free; a server that was built without it stores the text as it is.
DO $$
BEGIN
    ALTER TABLE outbox ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    ALTER TABLE outbox ALTER COLUMN body SET STORAGE EXTERNAL;
END $$;

-- One row per worker incarnation (a fresh UUID at every start).
CREATE TABLE worker (
    id               uuid        PRIMARY KEY,
    pool             text        NOT NULL,
    capacity         int         NOT NULL CHECK (capacity > 0),
    host             text        NOT NULL,
    pid              int         NOT NULL,
    containment      text        NOT NULL DEFAULT 'guardian',
    draining         boolean     NOT NULL DEFAULT false,
    started_at       timestamptz NOT NULL DEFAULT now(),
    lease_expires_at timestamptz NOT NULL,
    last_canary      timestamptz,
    ended_at         timestamptz
) WITH (fillfactor = 50);
CREATE INDEX worker_live ON worker (pool) WHERE ended_at IS NULL;

-- The reaper's memory of outages: one row that any executor updates.
CREATE TABLE reaper_tick (
    singleton     boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    ticked_at     timestamptz NOT NULL DEFAULT now(),
    observe_until timestamptz,
    suspected_at  timestamptz
);
INSERT INTO reaper_tick DEFAULT VALUES;

-- A cancel that came before its request.
CREATE TABLE cancel_tombstone (
    execution_id uuid        PRIMARY KEY,
    reason       text        NOT NULL,
    actor        text        NOT NULL,
    expires_at   timestamptz NOT NULL
);

CREATE TABLE idempotency_key (
    key          text        PRIMARY KEY,
    request_hash bytea       NOT NULL,
    execution_id uuid        NOT NULL,
    expires_at   timestamptz NOT NULL
);

-- What could not be handled, whole, with the reason.
CREATE TABLE poison_message (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue        text        NOT NULL,
    reason       text        NOT NULL,
    detail       text        NOT NULL,
    content_type text,
    body         bytea       NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    replayed_at  timestamptz
);
