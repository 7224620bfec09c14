//! Spool files: where a hook leaves a record when the outbox is locked, damaged or cannot be opened.
//!
//! One file per record: the first line is the SHA-256 of the rest, the second a line of JSON that says
//! what the record is and where it goes, then comes the record itself. It is written durably
//! (`durable`); only then is the record safe and the hook done. The
//! next delivery takes the files in: queues them, and removes a file only after the queueing has been
//! committed. A file taken in twice is one entry. A file that is not what its checksum says is moved into
//! `damaged/` beside it and counted, never deleted. A temporary file older than an hour belongs to a
//! process that died before its record was acknowledged; it is taken in like the others.
//!
//! Limits: a file above 4 MiB is not read but moved aside. Symbolic links are not followed.
//!
//! A spool file names the store that its record goes to, and with it who is shown the user's credentials. So a folder or
//! file that another user owns, or may write to, is left alone and named; and a record from another folder than the agent's own
//! (a repository's, which may have been unpacked from an archive) is held where neither the settings nor an earlier
//! record name its store, until a person lets it go (`outbox retry`).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::enqueue::{name_of, path_of};
use super::{NewEntry, Outbox, OutboxError, Urgency};
use crate::destination::Destination;
use crate::durable::{self, TEMPORARY};
use crate::hex::hex;
use crate::judgement::Essence;

const SUFFIX: &str = ".spool";
const MAX_BYTES: u64 = 4 << 20;
const STALE: Duration = Duration::from_secs(3600);
/// Files queued in one transaction.
const BATCH: usize = 128;

/// What was found in spool folders.
#[derive(Debug, Default)]
pub struct TakenIn {
    /// Files whose records are in the outbox now.
    pub taken: usize,
    /// Damaged files, where they are now.
    pub set_aside: Vec<PathBuf>,
    /// Folders and files that could not be read; they stay where they are, and in nobody's way.
    pub problems: Vec<OutboxError>,
}

/// The second line of a spool file.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    tenant: String,
    date: String,
    id: String,
    destination: Destination,
    digest: String,
    judgement: String,
    urgency: Urgency,
    /// Bytes: paths need not be UTF-8.
    repository: Vec<u8>,
    hold: Option<String>,
}

/// A spool file, read and found sound.
struct Spooled {
    path: PathBuf,
    header: Header,
    repository: PathBuf,
    body: Vec<u8>,
}

/// Why a record from a repository's folder waits for a person.
const STRANGE_STORE: &str = "this record lay in the repository and names a store that neither the settings nor earlier records name; \
                             `gitops-agent outbox show` says which, `outbox retry` sends it there";

impl Spooled {
    fn entry(&self, strange: bool) -> NewEntry<'_> {
        NewEntry {
            tenant: &self.header.tenant,
            date: &self.header.date,
            id: &self.header.id,
            destination: &self.header.destination,
            digest: &self.header.digest,
            judgement: &self.header.judgement,
            body: &self.body,
            urgency: self.header.urgency,
            repository: &self.repository,
            hold: if strange { Some(STRANGE_STORE) } else { self.header.hold.as_deref() },
        }
    }
}

/// Writes one record into a spool folder, creating it where it is missing; when this returns the record
/// survives a power cut. Costs a sync, on some file systems two.
///
/// # Errors
/// When folder or file cannot be written.
pub fn write_spool(dir: &Path, entry: &NewEntry<'_>, now: Timestamp) -> Result<(), OutboxError> {
    let header = Header {
        version: 1,
        tenant: entry.tenant.to_owned(),
        date: entry.date.to_owned(),
        id: entry.id.to_owned(),
        destination: entry.destination.clone(),
        digest: entry.digest.to_owned(),
        judgement: entry.judgement.to_owned(),
        urgency: entry.urgency,
        repository: entry.repository.as_os_str().as_bytes().to_vec(),
        hold: entry.hold.map(str::to_owned),
    };
    let mut content = serde_json::to_vec(&header)
        .map_err(|source| OutboxError::NotARecord { id: entry.id.to_owned(), source })?;
    content.push(b'\n');
    content.extend_from_slice(entry.body);
    let checksum = format!("{}\n", checksum(&content));
    durable::write(dir, SUFFIX, now, &[checksum.as_bytes(), &content])
        .map_err(|source| OutboxError::io(dir, source))
}

/// The spool folder in a folder of the agent's.
#[must_use]
pub fn spool_in(dir: &Path) -> PathBuf {
    dir.join("spool")
}

fn checksum(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

impl Outbox {
    /// Queues what lies in spool folders and removes the files. A folder that does not exist is empty.
    ///
    /// # Errors
    /// When the outbox cannot be written; what was not queued stays where it is.
    pub fn take_in_spool(&mut self, spool_dirs: &[PathBuf], now: Timestamp) -> Result<TakenIn, OutboxError> {
        let mut taken_in = TakenIn::default();
        for dir in spool_dirs {
            match spool_files(dir) {
                Ok(Listed { files, strange }) => {
                    let own = self.is_own_spool(dir);
                    for names in files.chunks(BATCH) {
                        self.take_in_batch(names, own, now, &mut taken_in)?;
                    }
                    let problem = |path: PathBuf| OutboxError::io(&path, not_ours());
                    taken_in.problems.extend(strange.into_iter().map(problem));
                }
                Err(error) => taken_in.problems.push(OutboxError::io(dir, error)),
            }
        }
        Ok(taken_in)
    }

    /// Names a store that records from a repository's folder may go to, beside those in the outbox already.
    pub fn trust(&mut self, destination: &Destination) {
        self.trusted = Some(destination.clone());
    }

    /// Whether what lies in `folder` may name `destination`.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn may_name(&self, folder: &Path, destination: &Destination) -> Result<bool, OutboxError> {
        if *destination == Destination::Local
            || self.trusted.as_ref() == Some(destination)
            || self.is_own_spool(folder)
        {
            return Ok(true);
        }
        let mut known = self.connection.prepare_cached("SELECT 1 FROM destinations WHERE name = ?1")?;
        Ok(known.exists([name_of(destination)])?)
    }

    fn is_own_spool(&self, folder: &Path) -> bool {
        let own = spool_in(&self.dir);
        let real = |path: &Path| fs::canonicalize(path).ok();
        own == folder || real(&own).is_some_and(|own| real(folder) == Some(own))
    }

    fn take_in_batch(
        &mut self,
        paths: &[PathBuf],
        own: bool,
        now: Timestamp,
        taken_in: &mut TakenIn,
    ) -> Result<(), OutboxError> {
        let mut sound = Vec::new();
        for path in paths {
            match read(path) {
                Ok(Some(spooled)) => sound.push(spooled),
                Ok(None) => match set_aside(path) {
                    Ok(target) => taken_in.set_aside.push(target),
                    Err(error) => taken_in.problems.push(OutboxError::io(path, error)),
                },
                // Another delivery or a person was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => taken_in.problems.push(OutboxError::io(path, error)),
            }
        }
        let mut entries = Vec::with_capacity(sound.len());
        for spooled in &sound {
            let folder = spooled.path.parent().unwrap_or(Path::new(""));
            let strange = !own && !self.may_name(folder, &spooled.header.destination)?;
            entries.push(spooled.entry(strange));
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.enqueue(&entries, now)?;
        for Spooled { path, .. } in &sound {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    taken_in.problems.push(OutboxError::io(path, error));
                }
                _ => taken_in.taken += 1,
            }
        }
        Ok(())
    }
}

/// The files in spool folders that wait to be taken in.
#[must_use]
pub fn spool_waiting(spool_dirs: &[PathBuf]) -> BTreeSet<PathBuf> {
    spool_dirs.iter().filter_map(|dir| spool_files(dir).ok()).flat_map(|found| found.files).collect()
}

/// Whether only this user could have written something: a folder, or a file that is no link.
#[must_use]
#[expect(unsafe_code, reason = "the standard library does not tell whose process this is")]
pub fn is_ours(path: &Path) -> bool {
    // SAFETY: takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    fs::symlink_metadata(path).is_ok_and(|found| found.uid() == user && found.mode() & 0o022 == 0)
}

fn not_ours() -> io::Error {
    io::Error::other("another user owns it or may write to it, so it is not taken in")
}

/// What lies in a spool folder.
#[derive(Default)]
struct Listed {
    /// The files to take in, oldest first.
    files: Vec<PathBuf>,
    /// Files that somebody else may have written.
    strange: Vec<PathBuf>,
}

fn spool_files(dir: &Path) -> io::Result<Listed> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Listed::default());
        }
        other => other?,
    };
    if !is_ours(dir) {
        return Err(not_ours());
    }
    let mut found = Listed::default();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(SUFFIX) || (name.ends_with(TEMPORARY) && is_stale(&entry.path())) {
            let path = entry.path();
            if is_ours(&path) { found.files.push(path) } else { found.strange.push(path) }
        }
    }
    found.files.sort();
    Ok(found)
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > STALE))
}

/// Reads a spool file; `None` where it is not what a hook wrote.
fn read(path: &Path) -> io::Result<Option<Spooled>> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Ok(None);
    }
    Ok(parse(&content).map(|(header, body)| Spooled {
        path: path.to_owned(),
        repository: path_of(&header.repository),
        header,
        body,
    }))
}

/// Whether bytes are a spool file: for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_sound(content: &[u8]) -> bool {
    parse(content).is_some()
}

/// The checksum that makes bytes a spool file, if they are one otherwise: for the fuzzer, which cannot find it.
#[cfg(any(test, fuzzing))]
pub(crate) fn with_checksum(rest: &[u8]) -> Vec<u8> {
    [checksum(rest).as_bytes(), b"\n", rest].concat()
}

fn parse(content: &[u8]) -> Option<(Header, Vec<u8>)> {
    let (sum, rest) = split_line(content)?;
    if checksum(rest).as_bytes() != sum {
        return None;
    }
    let (header, body) = split_line(rest)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    Essence::from_slice(body).ok()?;
    (header.version == 1).then(|| (header, body.to_vec()))
}

fn split_line(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', content)?;
    Some((&content[..end], &content[end + 1..]))
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let folder = durable::own_folder(&parent.join("damaged"))?;
    let target = folder.join(path.file_name().unwrap_or_default());
    fs::rename(path, &target)?;
    durable::sync_folder(&folder)?;
    Ok(target)
}
