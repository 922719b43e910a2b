-- Version 3. Pods: what containers share. A row comes before its first container's, and goes after its last one's.

CREATE TABLE pods (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('kept', 'removing')),
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX containers_by_pod ON containers (pod) WHERE pod IS NOT NULL;
