//! The outbox: records on the user's disk until the store has them.
//!
//! # The promise
//!
//! *A commit that Git has accepted has exactly one record in the store in the end, whatever is killed, cut, full,
//! slow, broken or refused in between; and no fault of ours ever reaches the developer's commit.* The outbox's part:
//!
//! When [`Outbox::enqueue`] or [`write_spool`] has returned, the record survives the end of the process,
//! of the system, and of the power. It leaves the disk only after the store has answered that it has it,
//! or after a person has discarded it by name. A commit queued twice, by two hooks, by a hook and by
//! backfill, or from the outbox and from a spool file, is one entry. `docs/reliability.md` names the test of each word.
//!
//! # States
//!
//! ```text
//!            ┌────────── access works, setting given ─────────┐
//!            ▼                                                │
//! enqueue ▶ pending ── access or container ────────────▶ held (by a gate, or by a setting)
//!            │  ▲ │
//!            │  │ └── the store will never take it ────▶ refused ── retry ──▶ pending
//!            │  └──── later judgement, new links ────── delivered
//!            └─────── the store has it ───────────────▶ delivered
//!            pending, held, refused ── discard ───────▶ discarded (tombstone: stays)
//! ```
//!
//! * An error never counts against a record: there is no limit of attempts, only a later next attempt.
//! * What a whole destination, or one partition of it, waits for is a *gate*, one row: ten thousand records
//!   behind it are held by that row and go on when it is gone, without being touched.
//! * `delivered` and `discarded` rows keep key, digest, judgement and links (about 300 bytes), so that what
//!   comes again is known; the record itself is dropped. Their pages go back to the file system.
//! * A row's `revision` counts changes of its record: the answer to a request that carried an older one
//!   does not settle the newer one.
//! * A second record of the same commit is decided by [`crate::judgement`], the same way as in the store.
//!
//! Beside the queue lies what reconciliation remembers of each repository (`tracked`), and what is known of its
//! changes (`measured`).
//!
//! # How
//!
//! SQLite in WAL mode with `synchronous=FULL`, one `BEGIN IMMEDIATE` per call. A hook with
//! one commit does not open it at all but spools ([`write_spool`]); one with many uses
//! [`Outbox::open_for_hook`]: at most 100 ms of waiting for another writer, no checkpoint, two syncs; any
//! error there means spooling too. Everyone else uses [`Outbox::open`] and waits up to 5 s. A damaged
//! file is set aside with all its bytes by `open`, never by the hook, and what still reads of it is taken over
//! into a new one ([`Notice`]).
//!
//! Limits: 100 000 entries are about 30 MB once delivered, and what the records take before. The file must
//! be on a local disk: WAL does not work across a network, so a home there is refused by name; hooks go on spooling,
//! which works anywhere.

mod damage;
mod enqueue;
mod entry;
mod gates;
mod look;
mod measured;
mod queue;
mod salvage;
mod spending;
pub(crate) mod spool;
mod stats;
mod tidy;
mod tracked;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

pub use damage::Notice;
pub use entry::{Enqueued, EntryDetail, EntrySummary, NewEntry, RepositoryRow, Selection, State, Urgency};
pub use gates::{Circuit, Gate, GateScope};
pub use measured::{Beside, Calibration};
pub use queue::{DestinationId, LastError, Outcome, Progress, Settlement, Waiting};
pub use spending::DaySpent;
pub use spool::{TakenIn, is_ours, spool_in, spool_waiting, write_spool};
pub use stats::{DestinationStats, Quantiles, Stats};
pub use tracked::{RecordedCounts, Tracked, Tracking};

use crate::sqlite::{self, Opening};

/// The name of the outbox in the agent's data folder.
pub const FILE_NAME: &str = "outbox.db";

/// The kind of an entry that waits for a setting, not for the store.
pub const HELD_BY_SETTING: &str = "setting";

/// How long everyone but a hook waits for another process's lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// `schema[n]` leads from version n to n + 1; applied ones are never edited.
const SCHEMA: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];

/// Why the outbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A file or folder could not be used.
    #[error("{path}: {source}; check that the folder exists, is yours and has room")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has been writing for longer than this one may wait.
    #[error("the outbox is locked by another process; try again, or see who holds it with `status`")]
    Busy,
    /// The bytes in the file are not those of a sound database.
    #[error("the outbox is damaged ({0}); the next `flush` sets it aside and begins a new one")]
    Damaged(rusqlite::Error),
    /// No room.
    #[error("the disk with the outbox is full; make room and run `flush`")]
    Full,
    /// The file system cannot hold it.
    #[error(
        "{path}: SQLite's write-ahead log does not work there: {because}; set GITOPS_AGENT_HOME to a folder on a local disk, commits wait in spool files meanwhile"
    )]
    NoWal {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        because: String,
    },
    /// A newer agent has been here.
    #[error(
        "{path}: version {found} of the outbox is newer than this agent, which knows {known}; update the agent"
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Version of the file.
        found: i64,
        /// Newest version known here.
        known: i64,
    },
    /// The body is not a record.
    #[error("commit {id}: what was to be queued is not a record ({source}); this is a fault of the agent")]
    NotARecord {
        /// The commit.
        id: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// No such entry.
    #[error("no entry for commit {0} in the outbox; `outbox list` shows what is there")]
    NotFound(String),
    /// Several commits begin so.
    #[error("{count} commits in the outbox begin with {prefix}; give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// Delivered and discarded entries cannot be discarded.
    #[error("commit {0} has been delivered or discarded already; there is nothing left to discard")]
    Settled(String),
    /// Any other answer of SQLite.
    #[error("the outbox could not be read or written: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for OutboxError {
    fn from(error: rusqlite::Error) -> Self {
        if sqlite::is_damage(&error) {
            return Self::Damaged(error);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

impl OutboxError {
    fn io(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::Full;
        }
        Self::Io { path: path.to_owned(), source }
    }

    fn opening(dir: &Path, error: sqlite::OpenError) -> Self {
        match error {
            sqlite::OpenError::Io(source) => Self::io(dir, source),
            sqlite::OpenError::Sqlite(error) => error.into(),
            sqlite::OpenError::NoWal(because) => Self::NoWal { path: dir.to_owned(), because },
            sqlite::OpenError::Newer { found, known } => Self::Newer { path: dir.to_owned(), found, known },
        }
    }
}

/// The outbox, opened.
#[derive(Debug)]
pub struct Outbox {
    connection: Connection,
    dir: PathBuf,
    notice: Option<Notice>,
    /// The store that the settings name.
    trusted: Option<crate::destination::Destination>,
}

impl Outbox {
    /// Opens the outbox in the agent's data folder for the command line and the worker, creating both
    /// where they are missing. A damaged file is set aside; [`Outbox::notice`] then says so.
    ///
    /// # Errors
    /// When folder or file cannot be used, or another process holds the file for 5 s.
    pub fn open(dir: &Path) -> Result<Self, OutboxError> {
        let opening = Opening { busy_timeout: PATIENCE, checkpoints: true };
        let notice = damage::examine_if_suspect(dir)?;
        match Self::open_as(dir, opening) {
            Err(OutboxError::Damaged(_)) => {
                let notice = damage::examine(dir)?;
                Ok(Self { notice, ..Self::open_as(dir, opening)? })
            }
            opened => Ok(Self { notice, ..opened? }),
        }
    }

    /// Opens the outbox for a hook: waits at most 100 ms for another writer and never checkpoints. On any
    /// error the hook spools ([`write_spool`]).
    ///
    /// # Errors
    /// When folder or file cannot be used, are damaged, or are held by another process.
    pub fn open_for_hook(dir: &Path) -> Result<Self, OutboxError> {
        Self::open_as(dir, Opening { busy_timeout: Duration::from_millis(100), checkpoints: false })
    }

    fn open_as(dir: &Path, opening: Opening) -> Result<Self, OutboxError> {
        let connection = sqlite::open(dir, FILE_NAME, opening, SCHEMA)
            .map_err(|error| OutboxError::opening(dir, error))?;
        connection.set_prepared_statement_cache_capacity(32);
        // The worker checkpoints by itself (`tidy`). Closing would do it too and remove the log, which the next
        // hook would have to make anew: one more sync of the folder.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(Self { connection, dir: dir.to_owned(), notice: None, trusted: None })
    }

    /// The folder that the outbox lies in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What [`Outbox::open`] had to do about a damaged file.
    #[must_use]
    pub fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    /// Examines the whole file (30 MB take about 50 ms). A damaged one is set aside by the next
    /// [`Outbox::open`].
    ///
    /// # Errors
    /// [`OutboxError::Damaged`], or when the file cannot be read.
    pub fn sound(&self) -> Result<(), OutboxError> {
        let answer: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.suspect(error.into()))?;
        if answer == "ok" {
            return Ok(());
        }
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Err(self.suspect(OutboxError::Damaged(rusqlite::Error::SqliteFailure(code, Some(answer)))))
    }

    /// Remembers that the file looked damaged, so that the next [`Outbox::open`] examines all of it.
    /// The error itself goes on to the caller.
    pub(crate) fn suspect(&self, error: OutboxError) -> OutboxError {
        if matches!(error, OutboxError::Damaged(_)) {
            damage::mark_suspect(&self.dir);
        }
        error
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }
}

/// A stored time; what no calendar holds (a damaged number) becomes the epoch.
fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A count from SQLite, never negative.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
