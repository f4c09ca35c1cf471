-- What was said in conversations. A message is written again, at its place, when the run that says it goes on
-- elsewhere: `seq` is the order of a conversation, and stays. JSON is kept as text, as it came.
CREATE TABLE messages (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL,
    flow_name text NOT NULL,
    session_id text NOT NULL,
    said_at timestamptz NOT NULL,
    run_id uuid NOT NULL,
    epoch bigint NOT NULL,
    node text NOT NULL,
    flow_id text NOT NULL,
    sender text NOT NULL,
    sender_name text NOT NULL,
    context_id text NOT NULL,
    category text NOT NULL,
    text text NOT NULL,
    files text NOT NULL,
    properties text NOT NULL,
    content_blocks text NOT NULL
);

CREATE UNIQUE INDEX messages_id ON messages (tenant, id);
CREATE INDEX messages_session ON messages (tenant, session_id, flow_name, seq);
