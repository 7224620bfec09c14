-- Version 3: what is known of each repository's changes, for percentiles and calibration.

-- One row per repository (the `id` of its records), shared by all its working copies.
CREATE TABLE histories (
    history       INTEGER PRIMARY KEY,
    repository_id TEXT NOT NULL UNIQUE,
    model         TEXT                  -- the calibrated model and its figures (JSON), where one is kept
) STRICT;

-- Every commit that was measured, whatever became of its record. About 30 bytes each.
CREATE TABLE measured (
    history     INTEGER NOT NULL REFERENCES histories,
    id          BLOB NOT NULL,          -- the commit's id, bytes
    change_risk INTEGER NOT NULL,       -- M2, in thousandths
    calibrated  INTEGER,                -- by the model, in thousandths
    PRIMARY KEY (history, id)
) STRICT, WITHOUT ROWID;

-- What files and authors have been through, kept where there is a model that asks.
CREATE TABLE pasts (
    history INTEGER NOT NULL REFERENCES histories,
    thing   INTEGER NOT NULL,           -- hash of a path or an author
    changes INTEGER NOT NULL,
    fixes   INTEGER NOT NULL,
    last_at INTEGER NOT NULL,           -- seconds
    PRIMARY KEY (history, thing)
) STRICT, WITHOUT ROWID;

-- The last row of `entries` that was measured.
INSERT INTO counters (name, value) VALUES ('measured', 0);
