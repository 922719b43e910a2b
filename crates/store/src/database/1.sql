-- Version 1. Digests are `sha256:HEX`, times nanoseconds since 1970 (UTC).

-- Files of blobs/sha256, whole. `diff_id` is set for a layer's archive once its content was seen to have it. What is
-- `damaged` counts as not there for whoever could bring it again.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    diff_id TEXT,
    damaged INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_diff_id ON blobs (diff_id) WHERE diff_id IS NOT NULL;

-- Directories of layers/, complete. `summary` is the digest of a description of every entry.
CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    summary TEXT NOT NULL,
    damaged INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
    id TEXT PRIMARY KEY REFERENCES blobs (digest),
    manifest TEXT NOT NULL REFERENCES blobs (digest),
    added INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_manifest ON images (manifest);

CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id),
    blob TEXT NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_diff_id ON image_layers (diff_id);
CREATE INDEX image_layers_by_blob ON image_layers (blob);

-- With a tag, or with a digest.
CREATE TABLE names (
    name TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image);

-- Who makes something now: a process, by its number, its start in clock ticks after boot, and the boot.
CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    created INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    start INTEGER NOT NULL,
    boot TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What it wants to stay, whether it is there yet or not.
CREATE TABLE claims (
    lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer')),
    digest TEXT NOT NULL,
    PRIMARY KEY (lease, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_by_digest ON claims (digest);

CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('kept', 'removing')),
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT REFERENCES images (id),
    created INTEGER NOT NULL,
    pod TEXT,
    stage TEXT NOT NULL CHECK (stage IN ('kept', 'removing')),
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX containers_by_image ON containers (image);

CREATE TABLE container_volumes (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes (name),
    PRIMARY KEY (container, volume)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_volumes_by_volume ON container_volumes (volume);

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    id TEXT NOT NULL,
    attributes TEXT NOT NULL
) STRICT;
