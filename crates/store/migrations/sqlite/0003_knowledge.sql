-- Bases of knowledge. The counts are those of their chunks.
CREATE TABLE knowledge (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    settings TEXT NOT NULL,
    dimensions INTEGER,
    chunks INTEGER NOT NULL DEFAULT 0,
    words INTEGER NOT NULL DEFAULT 0,
    characters INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX knowledge_name ON knowledge (tenant, name);

-- Texts with their vectors (32-bit floats, little-endian); `hash` is of what identifies a text. JSON is kept as text,
-- as it came.
CREATE TABLE knowledge_chunks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    knowledge TEXT NOT NULL,
    id TEXT NOT NULL,
    hash TEXT NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT NOT NULL,
    tags TEXT,
    embedding BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX knowledge_chunks_id ON knowledge_chunks (knowledge, id);
CREATE INDEX knowledge_chunks_hash ON knowledge_chunks (knowledge, hash);
CREATE INDEX knowledge_chunks_tagged ON knowledge_chunks (knowledge) WHERE tags IS NOT NULL;
