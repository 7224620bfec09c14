-- The outbox, version 1. One file per user; every process of the agent may have it open.
--
-- Times are milliseconds since 1970-01-01 UTC. Nothing here is deleted before it was delivered: a row
-- changes its state, and only `delivered` and `discarded` rows have given up their body.

-- A store, named completely (JSON of `destination::Destination`). A row goes to its own, whatever the
-- settings say when a worker runs.
CREATE TABLE destinations (
    destination     INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    request_units   REAL NOT NULL DEFAULT 0,
    last_success    INTEGER,
    last_error_at   INTEGER,
    last_error_kind TEXT,
    last_error      TEXT
) STRICT;

-- Who may pass: a closed circuit has no row or one that only counts failures. `held = 1` waits for a
-- person. tenant and date are empty for the whole destination, else they name one partition of it.
CREATE TABLE gates (
    destination INTEGER NOT NULL REFERENCES destinations,
    tenant      TEXT NOT NULL,
    date        TEXT NOT NULL,
    failures    INTEGER NOT NULL,   -- in a row, since the last success
    openings    INTEGER NOT NULL,   -- in a row, since the last success
    open        INTEGER NOT NULL,
    held        INTEGER NOT NULL,
    kind        TEXT NOT NULL,      -- of the error that opened it
    message     TEXT NOT NULL,
    since       INTEGER NOT NULL,
    retry_at    INTEGER NOT NULL,   -- when one record may try again
    PRIMARY KEY (destination, tenant, date)
) STRICT, WITHOUT ROWID;

-- Working copies that have handed in commits. `path` is bytes: paths need not be UTF-8.
CREATE TABLE repositories (
    repository    INTEGER PRIMARY KEY,
    path          BLOB NOT NULL UNIQUE,
    repository_id TEXT NOT NULL,
    recorded      INTEGER NOT NULL DEFAULT 0,
    seen_at       INTEGER NOT NULL
) STRICT;

-- Who judged: the opaque name that backfill asks by, and the place in the contract's order (JSON).
CREATE TABLE judgements (
    judgement INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    standing  TEXT NOT NULL,
    UNIQUE (name, standing)
) STRICT;

-- The `repository` of a record, shared by nearly all rows of a working copy (JSON, without branch).
CREATE TABLE sources (
    source  INTEGER PRIMARY KEY,
    content TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE entries (
    entry      INTEGER PRIMARY KEY,
    tenant     TEXT NOT NULL,
    date       TEXT NOT NULL,
    id         TEXT NOT NULL,
    destination INTEGER NOT NULL REFERENCES destinations,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'held', 'refused', 'delivered', 'discarded')),
    urgency    INTEGER NOT NULL,            -- 0 a commit made now, 1 history
    revision   INTEGER NOT NULL DEFAULT 0,  -- counts changes of the body: the answer to an older one settles nothing
    attempts   INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,  -- the next attempt
    queued_at  INTEGER NOT NULL,
    settled_at INTEGER,                     -- when it was delivered or discarded
    kind       TEXT,                        -- of the last error; 'setting' where a setting is missing
    reason     TEXT,                        -- the last error's words, or why it was discarded
    settled_by TEXT,                        -- who discarded it
    repository INTEGER NOT NULL REFERENCES repositories,
    judgement  INTEGER NOT NULL REFERENCES judgements,
    source     INTEGER NOT NULL REFERENCES sources,
    lists      TEXT,                        -- supersedes and alsoIn where there are any (JSON)
    digest     TEXT NOT NULL,
    body       BLOB,                        -- the record (JSON), last, so that reading the rest never touches it
    CHECK ((body IS NULL) = (state IN ('delivered', 'discarded')))
) STRICT;

CREATE UNIQUE INDEX entries_key ON entries (id, tenant, destination);

-- What delivery and `status` ask for all the time; covers both, and holds waiting rows only.
CREATE INDEX entries_waiting ON entries (destination, urgency, tenant, date, entry, not_before, queued_at)
    WHERE state = 'pending';

CREATE INDEX entries_aside ON entries (destination, state)
    WHERE state IN ('held', 'refused', 'discarded');

-- What people see: a row behind a gate that waits for a person is held.
CREATE VIEW shown AS
SELECT e.*,
       CASE WHEN e.state = 'pending' AND EXISTS (
           SELECT 1 FROM gates g
           WHERE g.destination = e.destination AND g.held = 1
             AND (g.tenant = '' OR (g.tenant = e.tenant AND g.date = e.date)))
       THEN 'held' ELSE e.state END AS shown
FROM entries e;

-- The last 1000 operations' latencies, a ring.
CREATE TABLE latencies (
    slot         INTEGER PRIMARY KEY,
    milliseconds REAL NOT NULL
) STRICT;

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('operations', 0);
