-- Version 2: what reconciliation remembers of each repository.

-- One row per repository (all its worktrees share `common_dir`, bytes).
CREATE TABLE tracked (
    tracked    INTEGER PRIMARY KEY,
    common_dir BLOB NOT NULL UNIQUE,
    -- 'installed': by `install` here. 'seen': a hook of `install --global` has recorded from here.
    -- 'off': known, not reconciled (backfill alone, or uninstalled).
    state      TEXT NOT NULL CHECK (state IN ('installed', 'seen', 'off')),
    started_at INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    start      TEXT NOT NULL,       -- where the history begins that belongs to backfill (JSON, ids)
    cursor     TEXT NOT NULL,       -- how far reconciliation has looked (JSON of `capture::Cursor`)
    problem    TEXT                 -- why the last look failed
) STRICT;

ALTER TABLE repositories ADD COLUMN tracked INTEGER REFERENCES tracked;

-- Commits that were made, never recorded, and are gone from the repository. Kept for good.
CREATE TABLE lost (
    common_dir BLOB NOT NULL,
    id         TEXT NOT NULL,
    seen_at    INTEGER NOT NULL,
    PRIMARY KEY (common_dir, id)
) STRICT, WITHOUT ROWID;
