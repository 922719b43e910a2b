-- Version 4. Networks, and what containers and pods have in them. The three that are always there are docker's; addresses of
-- the first are chosen when it is used first.

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('kept', 'removing')),
    document TEXT NOT NULL,
    -- The addresses that were handed out last: the next ones are behind them.
    last_ipv4 TEXT,
    last_ipv6 TEXT
) STRICT, WITHOUT ROWID;

INSERT INTO networks (id, name, created, stage, document)
    SELECT lower(hex(randomblob(32))), driver, unixepoch() * 1000000000, 'kept', json_object('driver', driver)
    FROM (SELECT 'bridge' AS driver UNION SELECT 'host' UNION SELECT 'none');

-- `owner` is a container or a pod; `position` is its place among the owner's devices. What has ended keeps its addresses.
CREATE TABLE endpoints (
    owner TEXT NOT NULL,
    network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    ipv4 TEXT,
    ipv6 TEXT,
    document TEXT NOT NULL,
    PRIMARY KEY (owner, network)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX endpoints_by_ipv4 ON endpoints (network, ipv4) WHERE ipv4 IS NOT NULL;
CREATE UNIQUE INDEX endpoints_by_ipv6 ON endpoints (network, ipv6) WHERE ipv6 IS NOT NULL;

CREATE TRIGGER containers_free_endpoints AFTER DELETE ON containers
    BEGIN DELETE FROM endpoints WHERE owner = OLD.id; END;
CREATE TRIGGER pods_free_endpoints AFTER DELETE ON pods
    BEGIN DELETE FROM endpoints WHERE owner = OLD.id; END;
