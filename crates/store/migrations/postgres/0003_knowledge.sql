-- Orders chunks by distance where it is there: without it a search reads the vectors and orders them itself.
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS vector;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'searches of knowledge go without pgvector: %', SQLERRM;
END $$;

-- Bases of knowledge. The counts are those of their chunks.
CREATE TABLE knowledge (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    settings text NOT NULL,
    dimensions integer,
    chunks bigint NOT NULL DEFAULT 0,
    words bigint NOT NULL DEFAULT 0,
    characters bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL
);

CREATE UNIQUE INDEX knowledge_name ON knowledge (tenant, name COLLATE "C");

-- Texts with their vectors; `hash` is of what identifies a text. Vectors are plain arrays, so that they outlive the
-- extension. JSON is kept as text, as it came.
CREATE TABLE knowledge_chunks (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    knowledge uuid NOT NULL,
    id uuid NOT NULL,
    hash text NOT NULL,
    content text NOT NULL,
    metadata text NOT NULL,
    tags text,
    embedding real[] NOT NULL
);

CREATE UNIQUE INDEX knowledge_chunks_id ON knowledge_chunks (knowledge, id);
CREATE INDEX knowledge_chunks_hash ON knowledge_chunks (knowledge, hash);
CREATE INDEX knowledge_chunks_tagged ON knowledge_chunks (knowledge) WHERE tags IS NOT NULL;
