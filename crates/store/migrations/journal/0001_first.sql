-- Records of decisions: written in batches, read by id, dropped by age and number.
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY,
    id       BYTEA   NOT NULL,
    time     BIGINT  NOT NULL,
    scope    TEXT    NOT NULL,
    record   TEXT    NOT NULL
);
CREATE INDEX entries_by_id ON entries (id);
CREATE INDEX entries_by_scope ON entries (scope, sequence);
