-- Why: a batch cuts work into partitions, runs each as an execution of its own, and knows at every instant how far it is.
-- min_daemon: 0.1.0

-- Law 2. Each move has one owner and one guarded statement: whoever's conditional update wins has ended the batch.
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
