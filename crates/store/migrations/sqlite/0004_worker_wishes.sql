-- What workers are wished to do: to drain, or to accept again. A worker's id is new at every start.
CREATE TABLE worker_wishes (
    worker TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('accepting', 'draining')),
    handoff_ms INTEGER,
    wished_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX worker_wishes_age ON worker_wishes (wished_at);
