-- What was deleted while the registry's soft delete policy was on. The manifest's blobs stay held by its rows in `manifest_references`.
CREATE TABLE deleted_manifests (
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
    deleted BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX deleted_manifests_by_age ON deleted_manifests (registry, deleted);

-- Where a deleted tag pointed: it may have been deleted more than once.
CREATE TABLE deleted_tags (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    delete_enabled BOOLEAN NOT NULL,
    write_enabled BOOLEAN NOT NULL,
    read_enabled BOOLEAN NOT NULL,
    list_enabled BOOLEAN NOT NULL,
    deleted BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, name, digest)
);
CREATE INDEX deleted_tags_by_age ON deleted_tags (registry, deleted);
CREATE INDEX deleted_tags_by_digest ON deleted_tags (registry, repository, digest);

-- How a repository was locked whose manifests were all deleted, until one of them is restored or another one pushed.
CREATE TABLE deleted_repositories (
    registry TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    delete_enabled BOOLEAN NOT NULL,
    write_enabled BOOLEAN NOT NULL,
    read_enabled BOOLEAN NOT NULL,
    list_enabled BOOLEAN NOT NULL,
    PRIMARY KEY (registry, name)
);

-- Manifests that lost their last tag while the registry's retention policy was on, and when.
CREATE TABLE untagged (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX untagged_by_age ON untagged (registry, since);

-- Registries that were deleted and whose content was not yet.
CREATE TABLE removed_registries (registry TEXT NOT NULL PRIMARY KEY);
