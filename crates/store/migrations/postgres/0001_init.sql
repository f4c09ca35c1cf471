-- Forward only. No foreign keys: rows of one run are written by one transaction that has locked the run, and
-- the checks would lock and read `runs` once more for every event and checkpoint.

-- One row a run, rewritten several times in its life: narrow, and with room in each page so that updates that
-- touch no index (heartbeats, sequences of events, cancel flags) stay in place.
CREATE TABLE runs (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    flow_name text NOT NULL,
    flow_version integer NOT NULL,
    queue text NOT NULL,
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 2),
    state text NOT NULL CHECK (state IN
        ('scheduled', 'blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    interruptions integer NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    last_seq bigint NOT NULL,
    started_seq bigint,
    cancel_requested boolean NOT NULL DEFAULT false,
    worker uuid,
    created_at timestamptz NOT NULL,
    queued_at timestamptz,
    published_at timestamptz,
    started_at timestamptz,
    attempt_started_at timestamptz,
    lease_until timestamptz,
    run_at timestamptz,
    expires_at timestamptz,
    finished_at timestamptz,
    idempotency_key text,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL AND attempt_started_at IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX runs_list ON runs (tenant, id DESC);
CREATE UNIQUE INDEX runs_idempotency ON runs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- What operators look for among a million successes.
CREATE INDEX runs_unsuccessful ON runs (tenant, id DESC) WHERE state IN ('failed', 'cancelled', 'expired');
-- The others hold live runs only, so that they stay small however long the history grows.
CREATE INDEX runs_queued ON runs (queue, priority, queued_at, id) WHERE state = 'queued';
-- Not by lease_until: a heartbeat would then have to write every index of every running run. The reaper reads
-- all running runs instead, which are at most as many as the fleet has slots.
CREATE INDEX runs_running ON runs (queue, priority) WHERE state = 'running';
CREATE INDEX runs_scheduled ON runs (run_at) INCLUDE (queue, priority) WHERE state = 'scheduled';
CREATE INDEX runs_expiring ON runs (expires_at)
    WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'blocked', 'queued');

-- What a run was given: written once. JSON is kept as text: it is never looked into, and must come back byte for
-- byte.
CREATE TABLE run_data (
    run_id uuid PRIMARY KEY,
    flow_digest text NOT NULL,
    settings text NOT NULL,
    session_id text,
    labels jsonb NOT NULL DEFAULT '{}',
    trace text,
    replay_of uuid,
    idempotency_digest text,
    input text NOT NULL
);
CREATE INDEX run_data_labels ON run_data USING gin (labels jsonb_path_ops) WHERE labels <> '{}'::jsonb;

-- What happened to a run between its attempts and while one goes on, one row an append: `events` holds `count` events
-- from `first_seq` on. Events that other rows tell are not stored again: a run that no row says otherwise of began by
-- being queued at `created_at`, an attempt's `run.started` is its own row, and what came with an attempt's end is in
-- that row too. So a run that ends at its first attempt needs no row here.
CREATE TABLE run_events (
    run_id uuid NOT NULL,
    first_seq bigint NOT NULL,
    count integer NOT NULL,
    events text NOT NULL,
    PRIMARY KEY (run_id, first_seq)
);

-- Attempts that ended: all that an end writes beside the run's own row. The output of a run is that of its last
-- attempt.
CREATE TABLE run_attempts (
    run_id uuid NOT NULL,
    epoch bigint NOT NULL,
    attempt integer NOT NULL,
    worker uuid NOT NULL,
    started_at timestamptz NOT NULL,
    started_seq bigint NOT NULL,
    ended_at timestamptz NOT NULL,
    ended_because text NOT NULL,
    nodes_reused integer NOT NULL,
    error text,
    first_seq bigint NOT NULL,
    count integer NOT NULL,
    events text NOT NULL,
    output text,
    outputs text,
    PRIMARY KEY (run_id, epoch)
);

CREATE TABLE checkpoints (
    run_id uuid NOT NULL,
    node text NOT NULL,
    output text NOT NULL,
    PRIMARY KEY (run_id, node)
);

-- Runs to publish, a row a commit. Their messages are made from the runs' rows, should a row be left over.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL,
    runs uuid[] NOT NULL
);

CREATE TABLE flows (
    tenant text NOT NULL,
    name text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE flow_versions (
    tenant text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    flow_id uuid NOT NULL,
    digest text NOT NULL,
    nodes integer NOT NULL,
    engine text NOT NULL,
    created_at timestamptz NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (tenant, name, version)
);

CREATE INDEX flow_versions_flow_id ON flow_versions (tenant, flow_id);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    hash text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant, id DESC);

-- The time is the cursor of the log, so within a tenant no two entries share it.
CREATE TABLE audit (
    tenant text NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    PRIMARY KEY (tenant, at)
);
