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
    if let Some(network) = network(&dir)? {
        return Err(OpenError::NoWal(format!("the folder is on a network file system ({network})")));
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

/// The name of the network file system that a folder lies on; `None` for a local one. The write-ahead log's index is
/// memory that all processes share, and machines do not share memory: SQLite would not notice, and lose rows.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no statfs")]
fn network(dir: &Path) -> io::Result<Option<&'static str>> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with NUL and `found` has room for what the call writes.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let kind = unsafe { found.assume_init() }.f_type;
    // The kernel's number has 32 bits; the field's width and sign differ between platforms.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the upper half repeats the sign"
    )]
    Ok(network_name(kind as u32))
}

/// `statfs(2)` and the kernel's `magic.h`.
#[cfg(target_os = "linux")]
fn network_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "nfs",
        0x517b => "smb",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x564c => "ncp",
        0x5346_414f => "afs",
        0x7375_7245 => "coda",
        0x00c3_6400 => "ceph",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        _ => return None,
    })
}

/// See above; macOS says it itself.
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "the standard library has no statfs")]
fn network(dir: &Path) -> io::Result<Option<&'static str>> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with NUL and `found` has room for what the call writes.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let flags = unsafe { found.assume_init() }.f_flags;
    Ok((flags & libc::MNT_LOCAL.cast_unsigned() == 0).then_some("not local"))
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn network(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(network(&std::env::temp_dir()).unwrap(), None);
        assert!(network(Path::new("/nowhere/at/all")).is_err());
        assert_eq!(network_name(0x6969), Some("nfs"));
        // The kernel's number for cifs has its highest bit set.
        assert_eq!(network_name(0xff53_4d42), Some("cifs"));
        for local in [0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630] {
            assert_eq!(network_name(local), None, "ext4, tmpfs, btrfs, xfs, overlay");
        }
    }
}
