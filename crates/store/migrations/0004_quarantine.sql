-- What somebody has said about a manifest under quarantine. A table of its own: most manifests have none, and behind `content` in their
-- own row it would take reading that first.
CREATE TABLE quarantine (
    registry TEXT NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    state TEXT NOT NULL,
    details TEXT,
    PRIMARY KEY (registry, repository, digest)
);
