-- Work that outlives the request that asked for it, and the process that carries it out.
--
-- `state` is `waiting`, `leased`, `succeeded`, `failed` or `canceled`. `due` is when the job may be taken next: the time before which
-- it must not run while it waits, the end of the lease while somebody has it, NULL once it has ended. So one index serves both.
-- `token` grows with every lease: what an earlier holder writes has no effect.
CREATE TABLE jobs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C",
    state TEXT NOT NULL,
    due BIGINT,
    token BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    holder TEXT,
    cancel_asked BOOLEAN NOT NULL,
    created BIGINT NOT NULL,
    started BIGINT,
    ended BIGINT,
    expires BIGINT,
    note TEXT,
    outcome TEXT,
    sealed BYTEA,
    payload TEXT NOT NULL
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (kind, idempotency_key);
CREATE INDEX jobs_by_turn ON jobs (kind, due, created, id);
CREATE INDEX jobs_by_subject ON jobs (kind, subject, created);
CREATE INDEX jobs_by_end ON jobs (expires);
