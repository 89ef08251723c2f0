-- A record costs what its share of a batch costs: no row and no index entry of its own.
--
-- `sequence` is the number of the batch's last record. `records` is compressed: a line `id scope record` for each. A record's id begins
-- with its time, so that its batch is found by `newest_ms`, the latest time among the batch's ids; those that lie too far
-- behind it are named in `late_records`.
CREATE TABLE batches (
    sequence  INTEGER PRIMARY KEY,
    count     BIGINT NOT NULL,
    time      BIGINT NOT NULL,
    newest_ms BIGINT NOT NULL,
    records   BYTEA  NOT NULL
);
CREATE INDEX batches_by_time ON batches (newest_ms);
CREATE TABLE late_records (
    id    BYTEA   NOT NULL,
    batch INTEGER NOT NULL,
    PRIMARY KEY (id, batch)
) WITHOUT ROWID;
CREATE INDEX late_records_by_batch ON late_records (batch);
CREATE TABLE batch_scopes (
    scope TEXT    NOT NULL,
    batch INTEGER NOT NULL,
    PRIMARY KEY (scope, batch)
) WITHOUT ROWID;
CREATE INDEX batch_scopes_by_batch ON batch_scopes (batch);
