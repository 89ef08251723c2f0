-- Runs of tasks, quick builds and quick runs. They are no resources: nothing is assigned to them, and they expire.
--
-- `number` grows per registry and is the run's short name in another spelling. `document` is what it was asked for, without secrets;
-- `sealed` is the whole of what its worker needs, and gone at its end. `finished` is NULL until it has ended, then everything about it
-- stays as it is but `archived`.
CREATE TABLE runs (
    registry TEXT NOT NULL,
    number BIGINT NOT NULL,
    uid TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL,
    task TEXT,
    task_uid TEXT,
    pool TEXT,
    pool_uid TEXT,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    started BIGINT,
    finished BIGINT,
    archived BOOLEAN NOT NULL,
    has_effects BOOLEAN NOT NULL,
    findings BIGINT NOT NULL,
    message TEXT,
    outputs TEXT,
    dependencies TEXT,
    images TEXT,
    context TEXT,
    sealed BYTEA,
    document TEXT NOT NULL,
    PRIMARY KEY (registry, number)
);
CREATE INDEX runs_open ON runs (registry, pool_uid) WHERE finished IS NULL;
CREATE INDEX runs_by_end ON runs (finished) WHERE finished IS NOT NULL;
CREATE INDEX runs_by_task ON runs (registry, task, number);

-- The number that a registry's last run had: those of runs that expired are not given again.
CREATE TABLE run_numbers (registry TEXT NOT NULL PRIMARY KEY, last BIGINT NOT NULL);
