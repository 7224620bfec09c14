//! Commits that a hook could not judge, noted by id: when settings or rules do not load, or a push brings
//! more than a hook may take time for. The worker, `flush` and `backfill` judge them later.
//!
//! A note is one file of JSON, written durably (`durable`) beside
//! the spooled records, and removed only after its commits are in the outbox.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::destination::Destination;
use crate::durable;

/// How the files' names end.
pub(crate) const SUFFIX: &str = ".note";
/// A larger file is none of ours.
const MAX_BYTES: u64 = 64 << 20;

/// Commits that wait to be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The Git folder of the worktree they were made in.
    pub git_dir: PathBuf,
    /// The hook that announced them.
    pub source: String,
    /// The branch at that time, redacted.
    pub branch: Option<String>,
    /// Where the records go, if that could be known although the settings did not load; notes of earlier
    /// agents do not say.
    #[serde(default)]
    pub destination: Option<Destination>,
    /// The commits.
    pub commits: Vec<Commit>,
    /// When.
    pub noted_at: Timestamp,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Full id, hex.
    pub id: String,
    /// What it replaced.
    #[serde(default)]
    pub supersedes: Vec<String>,
}

/// Writes a note into `folder`, which is created where it is missing.
///
/// # Errors
/// If the note is not durably on the disk.
pub fn write(folder: &Path, note: &Note) -> std::io::Result<()> {
    let (_, name) = durable::names(SUFFIX, note.noted_at);
    durable::replace(folder, &name, &serde_json::to_vec(note)?)
}

/// The notes' files in `folder`, oldest first; a folder that is not there is empty.
///
/// # Errors
/// If the folder is there but cannot be listed.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().ends_with(SUFFIX))
        .collect();
    files.sort();
    Ok(files)
}

/// Reads a note.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn read(path: &Path) -> Result<Note, String> {
    let size = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !size.is_file() || size.len() > MAX_BYTES {
        return Err("is no note of ours".to_owned());
    }
    parse(&std::fs::read(path).map_err(|error| error.to_string())?)
}

/// Reads a note's bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<Note, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
