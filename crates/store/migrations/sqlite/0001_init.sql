-- Forward only. Times are microseconds since 1970 in UTC, ids are hyphenated lower-case text (whose order is
-- that of the ids), JSON is text. The shape is that of the PostgreSQL schema, which explains itself.

CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    flow_name TEXT NOT NULL,
    flow_version INTEGER NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 2),
    state TEXT NOT NULL CHECK (state IN
        ('scheduled', 'blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL,
    started_seq INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    created_at INTEGER NOT NULL,
    queued_at INTEGER,
    published_at INTEGER,
    started_at INTEGER,
    attempt_started_at INTEGER,
    lease_until INTEGER,
    run_at INTEGER,
    expires_at INTEGER,
    finished_at INTEGER,
    idempotency_key TEXT,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL AND attempt_started_at IS NOT NULL))
) STRICT;

CREATE INDEX runs_list ON runs (tenant, id DESC);
CREATE UNIQUE INDEX runs_idempotency ON runs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_unsuccessful ON runs (tenant, id DESC) WHERE state IN ('failed', 'cancelled', 'expired');
CREATE INDEX runs_queued ON runs (queue, priority, queued_at, id) WHERE state = 'queued';
CREATE INDEX runs_running ON runs (queue, priority) WHERE state = 'running';
CREATE INDEX runs_scheduled ON runs (run_at, queue, priority) WHERE state = 'scheduled';
CREATE INDEX runs_expiring ON runs (expires_at)
    WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'blocked', 'queued');

CREATE TABLE run_data (
    run_id TEXT PRIMARY KEY NOT NULL,
    flow_digest TEXT NOT NULL,
    settings TEXT NOT NULL,
    session_id TEXT,
    labels TEXT NOT NULL DEFAULT '{}',
    trace TEXT,
    replay_of TEXT,
    idempotency_digest TEXT,
    input TEXT NOT NULL
) STRICT;

CREATE TABLE run_events (
    run_id TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (run_id, first_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_attempts (
    run_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    started_seq INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    ended_because TEXT NOT NULL,
    nodes_reused INTEGER NOT NULL,
    error TEXT,
    first_seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    events TEXT NOT NULL,
    output TEXT,
    outputs TEXT,
    PRIMARY KEY (run_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    run_id TEXT NOT NULL,
    node TEXT NOT NULL,
    output TEXT NOT NULL,
    PRIMARY KEY (run_id, node)
) STRICT;

-- Without AUTOINCREMENT the id of a deleted row would be given out again, and a late `outbox_done` of the old
-- one would delete messages that nobody published.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL,
    runs TEXT NOT NULL
) STRICT;

CREATE TABLE flows (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE flow_versions (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    flow_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    nodes INTEGER NOT NULL,
    engine TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (tenant, name, version)
) STRICT;

CREATE INDEX flow_versions_flow_id ON flow_versions (tenant, flow_id);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX api_keys_tenant ON api_keys (tenant, id DESC);

CREATE TABLE audit (
    tenant TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (tenant, at)
) STRICT, WITHOUT ROWID;
