-- Sign-ins on one device that are approved on another. `device` is the hash of the code that the device keeps to itself.
-- `audience` is what the device wants a token for: it says so when it begins, and not again. `principal` and `uid` (the immutable id of its resource) are there once somebody has approved it.
CREATE TABLE device_logins (
    user_code TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    device BYTEA NOT NULL UNIQUE,
    client TEXT NOT NULL,
    audience TEXT NOT NULL,
    source TEXT NOT NULL,
    begun BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    declined BOOLEAN NOT NULL,
    answered BIGINT,
    principal TEXT,
    uid TEXT
);
CREATE INDEX device_logins_by_end ON device_logins (expires);
CREATE INDEX device_logins_by_source ON device_logins (source, expires);
