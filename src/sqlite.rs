//! How every SQLite file of the agent is opened.
//!
//! The outbox and the local store keep different things but the same promises: a row that was
//! acknowledged survives a power cut (WAL with `synchronous=FULL`; on macOS `fullfsync`, without which
//! a sync there stops at the drive's cache), folders are 0700 and files 0600, and any number of
//! processes may open a file for the first time at once. First use races in two places, and both were
//! seen to fail: the switch to WAL is answered with "busy" whatever the busy timeout is, so it is
//! repeated here; and the schema is created, or moved forward, inside one immediate transaction that
//! looks at `user_version` again once it holds the lock.
//!
//! Files are opened with `SQLITE_OPEN_NOFOLLOW` inside a folder whose real path was taken, so that a
//! planted symbolic link is an error, not a detour.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::disk::{self, DiskKind};
use crate::durable;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// How long a statement waits for another process's lock.
    pub(crate) busy_timeout: Duration,
    /// Whether this connection may move pages from the write-ahead log into the database, on commit
    /// and on close. The hook must not: it would pay three more syncs.
    pub(crate) checkpoints: bool,
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("SQLite's write-ahead log does not work there: {0}")]
    NoWal(String),
    #[error("the file is of version {found}, newer than {known}, the newest that this agent knows")]
    Newer { found: i64, known: i64 },
}

/// Makes sure that `path` is a file only its owner can read, creating an empty one where there is none.
/// What SQLite puts beside it takes over its permissions.
fn private_file(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => {
            if found.mode() & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o700))?;
            }
            Ok(())
        }
        Ok(_) => Err(io::Error::other(format!("{} is not a regular file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

/// Opens `dir/name`, creating both, and brings its schema forward. `schema[n]` leads from version `n`
/// to `n + 1`.
pub(crate) fn open(
    dir: &Path,
    name: &str,
    opening: Opening,
    schema: &[&str],
) -> Result<Connection, OpenError> {
    let dir = durable::private_folder(dir)?;
    let disk = disk::disk(&dir)?;
    if disk.kind == DiskKind::Network {
        return Err(OpenError::NoWal(format!("the folder is on a network file system ({})", disk.name)));
    }
    let path = dir.join(name);
    private_file(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut connection = Connection::open_with_flags(&path, flags)?;
    connection.busy_timeout(opening.busy_timeout)?;
    // Without it a kept statement is prepared anew whenever a value that the planner looked at changes:
    // for each row, here.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if !opening.checkpoints {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    }
    let known = i64::try_from(schema.len()).unwrap_or(i64::MAX);
    let found = user_version(&connection)?;
    if found > known {
        // Before anything of it is touched.
        return Err(OpenError::Newer { found, known });
    }
    if found != known {
        prepare(&mut connection, opening.busy_timeout, schema)?;
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    if cfg!(target_os = "macos") {
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    }
    Ok(connection)
}

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// First use, or a file of an older version.
fn prepare(connection: &mut Connection, patience: Duration, schema: &[&str]) -> Result<(), OpenError> {
    // Lets freed pages go back to the file system step by step; counts only before the first table.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode = with_patience(patience, || {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    })?;
    if mode != "wal" {
        return Err(OpenError::NoWal(format!("the journal mode stays {mode:?}")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = user_version(&transaction)?;
    let known = i64::try_from(schema.len()).unwrap_or(i64::MAX);
    let done = match usize::try_from(found) {
        Ok(done) if done <= schema.len() => done,
        _ => return Err(OpenError::Newer { found, known }),
    };
    for step in &schema[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

/// Repeats what SQLite answers with "busy" without asking the busy handler.
fn with_patience<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < patience =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// Whether the error says that the file's bytes are not those of a sound database.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
