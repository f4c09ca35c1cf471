-- What was said in conversations. A message is written again, at its place, when the run that says it goes on
-- elsewhere: `seq` is the order of a conversation, and stays. JSON is kept as text, as it came.
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    flow_name TEXT NOT NULL,
    session_id TEXT NOT NULL,
    said_at INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    node TEXT NOT NULL,
    flow_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_name TEXT NOT NULL,
    context_id TEXT NOT NULL,
    category TEXT NOT NULL,
    text TEXT NOT NULL,
    files TEXT NOT NULL,
    properties TEXT NOT NULL,
    content_blocks TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_id ON messages (tenant, id);
CREATE INDEX messages_session ON messages (tenant, session_id, flow_name, seq);
