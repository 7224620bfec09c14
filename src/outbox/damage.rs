//! A damaged outbox: noticed, examined under a lock, set aside with all its bytes, and what still reads of
//! it taken over into a new one ([`super::salvage`]).
//!
//! Whoever meets a damaged page leaves a marker file; the next [`super::Outbox::open`] examines the whole
//! file (`PRAGMA quick_check`) and, where that fails, renames it. Only one process at a time examines,
//! under a lock that the kernel drops with the process, and looks again once it holds it: otherwise the
//! second of two would set aside the new file of the first.
//!
//! Before anything is renamed the marker names where to, and it goes only after the rows were taken over: a
//! process that is killed in between leaves the work to the next.
//!
//! The log (`-wal`) is renamed before the database: a crash in between leaves a damaged database without
//! a log, which the next one sets aside; the other way round a new database would be given a foreign log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::{FILE_NAME, Outbox, OutboxError, PATIENCE, salvage};
use crate::sqlite::{self, Opening};

/// That a damaged outbox was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Where its bytes are now (`-wal` and `-shm` beside it, where there were any).
    pub set_aside: PathBuf,
    /// What SQLite said.
    pub because: String,
    /// Entries that could still be read and are in the new outbox.
    pub recovered: usize,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the outbox was damaged ({}) and is now {}; {} of its entries could be read and are in a new one; \
             run `gitops-agent backfill` to record again what could not",
            self.because,
            self.set_aside.display(),
            self.recovered
        )
    }
}

fn marker(dir: &Path) -> PathBuf {
    dir.join("outbox.suspect")
}

/// Best effort: where not even this can be written, the next one will meet the damage itself.
pub(super) fn mark_suspect(dir: &Path) {
    // What it may say already stays.
    let _ = private(OpenOptions::new().write(true).create(true).truncate(false)).open(marker(dir));
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
        Some(because) => {
            // A name whose database has not come yet belongs to a process that was killed in between.
            let begun = announced(dir).filter(|name| !dir.join(name).exists());
            let name = begun.map_or_else(|| free_name(dir), Ok).map_err(at)?;
            announce(dir, &name).map_err(at)?;
            set_aside(dir, &name).map_err(at)?;
            Some((name, because))
        }
        None => announced(dir).map(|name| (name, "another process began to set it aside".to_owned())),
    };
    let notice = notice.map(|(name, because)| take_over(dir, &name, because)).transpose()?;
    match fs::remove_file(marker(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(error)),
        _ => Ok(notice),
    }
}

/// Makes the new outbox and brings the old one's rows into it.
fn take_over(dir: &Path, name: &str, because: String) -> Result<Notice, OutboxError> {
    let set_aside = dir.join(name);
    let mut new = Outbox::open_as(dir, Opening { busy_timeout: PATIENCE, checkpoints: true })?;
    let recovered = if set_aside.exists() { salvage::into(&mut new.connection, dir, &set_aside)? } else { 0 };
    Ok(Notice { set_aside, because, recovered })
}

/// Writes into the marker where the damaged file goes.
fn announce(dir: &Path, name: &str) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(marker(dir))?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    crate::durable::sync_folder(dir)
}

/// What the marker says; a mere suspicion is an empty file.
fn announced(dir: &Path) -> Option<String> {
    let file = private(OpenOptions::new().read(true)).open(marker(dir)).ok()?;
    let mut name = String::new();
    file.take(256).read_to_string(&mut name).ok()?;
    (name.starts_with(FILE_NAME) && !name.contains('/')).then_some(name)
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

fn free_name(dir: &Path) -> io::Result<String> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
    (0_u32..)
        .map(|n| match n {
            0 => format!("{FILE_NAME}.damaged-{time}"),
            n => format!("{FILE_NAME}.damaged-{time}-{n}"),
        })
        .find(|name| dir.join(name).symlink_metadata().is_err())
        .ok_or_else(|| io::Error::other("no name left for the damaged outbox"))
}

fn set_aside(dir: &Path, name: &str) -> io::Result<()> {
    for suffix in ["-wal", "-shm", ""] {
        let from = dir.join(format!("{FILE_NAME}{suffix}"));
        match fs::rename(&from, dir.join(format!("{name}{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    crate::durable::sync_folder(dir)
}
