-- What workers are wished to do: to drain, or to accept again. A worker's id is new at every start.
CREATE TABLE worker_wishes (
    worker uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('accepting', 'draining')),
    handoff_ms bigint,
    wished_at timestamptz NOT NULL
);

CREATE INDEX worker_wishes_age ON worker_wishes (wished_at);
