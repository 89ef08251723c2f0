-- Portable between SQLite and PostgreSQL: times are microseconds since 1970, JSON is text, names sort by byte.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('generation', 0);

-- Content. `registry` is the registry's immutable uid.

CREATE TABLE repositories (
    registry TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    delete_enabled BOOLEAN NOT NULL,
    write_enabled BOOLEAN NOT NULL,
    read_enabled BOOLEAN NOT NULL,
    list_enabled BOOLEAN NOT NULL,
    PRIMARY KEY (registry, name)
);

-- `content` comes last: lists then never touch the pages that hold it.
CREATE TABLE manifests (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    media_type TEXT NOT NULL,
    config_media_type TEXT,
    artifact_type TEXT,
    subject TEXT,
    annotations TEXT,
    size_bytes BIGINT NOT NULL,
    image_size_bytes BIGINT NOT NULL,
    architecture TEXT,
    os TEXT,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    delete_enabled BOOLEAN NOT NULL,
    write_enabled BOOLEAN NOT NULL,
    read_enabled BOOLEAN NOT NULL,
    list_enabled BOOLEAN NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX manifests_by_subject ON manifests (registry, repository, subject, digest);
CREATE INDEX manifests_by_update ON manifests (registry, repository, updated, digest);

-- `kind` is `blob` or `child`.
CREATE TABLE manifest_references (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    architecture TEXT,
    os TEXT,
    PRIMARY KEY (registry, repository, manifest, position)
);
CREATE INDEX manifest_references_by_digest ON manifest_references (registry, repository, digest, kind);

CREATE TABLE tags (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    delete_enabled BOOLEAN NOT NULL,
    write_enabled BOOLEAN NOT NULL,
    read_enabled BOOLEAN NOT NULL,
    list_enabled BOOLEAN NOT NULL,
    PRIMARY KEY (registry, repository, name)
);
CREATE INDEX tags_by_digest ON tags (registry, repository, digest, name);
CREATE INDEX tags_by_update ON tags (registry, repository, updated, name);

-- Bytes on disk. A row exists exactly as long as at least one link does.
CREATE TABLE blobs (
    digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    size_bytes BIGINT NOT NULL,
    file TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX blobs_by_file ON blobs (file);

-- Which repository may see which blob. `unreferenced_since` is NULL while a manifest of the repository needs it.
CREATE TABLE links (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    unreferenced_since BIGINT,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX links_by_digest ON links (digest);
CREATE INDEX links_by_age ON links (unreferenced_since);

CREATE TABLE uploads (
    id TEXT NOT NULL PRIMARY KEY,
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    holder TEXT NOT NULL,
    file TEXT NOT NULL,
    offset_bytes BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    hash_state BYTEA,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL
);
CREATE UNIQUE INDEX uploads_by_file ON uploads (file);
CREATE INDEX uploads_by_holder ON uploads (registry, holder);
CREATE INDEX uploads_by_age ON uploads (created);

-- Resources, credentials, sealed secrets.

CREATE TABLE resources (
    id_key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    uid TEXT NOT NULL,
    type TEXT NOT NULL,
    document TEXT NOT NULL,
    generation BIGINT NOT NULL,
    etag TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL
);

-- `document` is NULL where the resource was removed.
CREATE TABLE resource_history (
    generation BIGINT NOT NULL,
    id_key TEXT COLLATE "C" NOT NULL,
    document TEXT,
    PRIMARY KEY (id_key, generation)
);

CREATE TABLE credentials (
    owner TEXT COLLATE "C" NOT NULL,
    slot TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    sealed BYTEA,
    created BIGINT NOT NULL,
    expires BIGINT,
    PRIMARY KEY (owner, slot)
);

CREATE TABLE vault (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL
);
