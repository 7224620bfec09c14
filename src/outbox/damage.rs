//! A damaged outbox: noticed, examined under a lock, set aside with all its bytes.
//!
//! Whoever meets a damaged page leaves a marker file; the next [`super::Outbox::open`] examines the whole
//! file (`PRAGMA quick_check`) and, where that fails, renames it. Only one process at a time examines,
//! under a lock that the kernel drops with the process, and looks again once it holds it: otherwise the
//! second of two would set aside the new file of the first.
//!
//! The log (`-wal`) is renamed before the database: a crash in between leaves a damaged database without
//! a log, which the next one sets aside; the other way round a new database would be given a foreign log.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::{FILE_NAME, OutboxError};
use crate::sqlite;

/// That a damaged outbox was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Where its bytes are now (`-wal` and `-shm` beside it, where there were any).
    pub set_aside: PathBuf,
    /// What SQLite said.
    pub because: String,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the outbox was damaged ({}) and is now {}; a new one was begun, run `backfill` to record again \
             what was waiting in it",
            self.because,
            self.set_aside.display()
        )
    }
}

fn marker(dir: &Path) -> PathBuf {
    dir.join("outbox.suspect")
}

/// Best effort: where not even this can be written, the next one will meet the damage itself.
pub(super) fn mark_suspect(dir: &Path) {
    let _ = private(OpenOptions::new().write(true).create(true).truncate(true)).open(marker(dir));
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW)
}

/// Examines the outbox where somebody has left the marker.
pub(super) fn examine_if_suspect(dir: &Path) -> Result<Option<Notice>, OutboxError> {
    if marker(dir).symlink_metadata().is_err() {
        return Ok(None);
    }
    examine(dir)
}

/// Examines the outbox, and sets it aside where it is damaged.
pub(super) fn examine(dir: &Path) -> Result<Option<Notice>, OutboxError> {
    let at = |source| OutboxError::io(dir, source);
    let lock: File = private(OpenOptions::new().write(true).create(true).truncate(false))
        .open(dir.join("outbox.examine.lock"))
        .map_err(at)?;
    lock.lock().map_err(at)?;
    let path = dir.join(FILE_NAME);
    let notice = match complaint(&path)? {
        Some(because) => Some(Notice { set_aside: set_aside(dir).map_err(at)?, because }),
        None => None,
    };
    match fs::remove_file(marker(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(error)),
        _ => Ok(notice),
    }
}

/// What is wrong with the file; `None` where it is sound or absent.
fn complaint(path: &Path) -> Result<Option<String>, OutboxError> {
    if !path.exists() {
        return Ok(None);
    }
    let check = || -> rusqlite::Result<String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
    };
    match check() {
        Ok(answer) if answer == "ok" => Ok(None),
        Ok(answer) => Ok(Some(answer)),
        Err(error) if sqlite::is_damage(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S");
    let target = (0_u32..)
        .map(|n| {
            if n == 0 {
                format!("{FILE_NAME}.damaged-{time}")
            } else {
                format!("{FILE_NAME}.damaged-{time}-{n}")
            }
        })
        .map(|name| dir.join(name))
        .find(|path| path.symlink_metadata().is_err())
        .ok_or_else(|| io::Error::other("no name left for the damaged outbox"))?;
    for suffix in ["-wal", "-shm", ""] {
        let from = dir.join(format!("{FILE_NAME}{suffix}"));
        let mut to = target.clone().into_os_string();
        to.push(suffix);
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    crate::durable::sync_folder(dir)?;
    Ok(target)
}
