//! Small files in `gitops-agent/` of a repository's common Git folder, which spare the next hook work: its id, its class,
//! what was passed over. Best effort: without them a hook looks itself.
//!
//! Whoever may write there might have put anything in their place: links are not followed, neither for the folder nor
//! for a file; what is no regular file or too large is as none, so that no pipe or device holds a hook.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::durable::{self, TEMPORARY};

/// The folder in a repository's common Git folder.
#[must_use]
pub fn folder(common_dir: &Path) -> PathBuf {
    common_dir.join("gitops-agent")
}

/// The content of a file of at most `max` bytes; none where there is no such.
#[must_use]
pub fn read(common_dir: &Path, name: &str, max: u64) -> Option<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        // Opening a pipe would wait for its writer.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(folder(common_dir).join(name))
        .ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > max {
        return None;
    }
    let mut content = Vec::new();
    file.take(max).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Writes a file whole, readable for its owner only.
///
/// # Errors
/// When the folder is a link, or folder or file cannot be written.
pub fn write(common_dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let folder = durable::own_folder(&folder(common_dir))?;
    let temporary = folder.join(format!("{name}.{}{TEMPORARY}", std::process::id()));
    let written = create(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file; `create_new` follows no link.
fn create(path: &Path) -> io::Result<fs::File> {
    let new = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match new() {
        // Left by a process of the same number that died.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            new()
        }
        other => other,
    }
}

/// Appends to a file, up to `max` bytes; more is left out.
///
/// # Errors
/// When folder or file is a link, or cannot be written.
pub fn append(common_dir: &Path, name: &str, content: &[u8], max: u64) -> io::Result<()> {
    let folder = durable::own_folder(&folder(common_dir))?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(folder.join(name))?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    if found.len() > max { Ok(()) } else { file.write_all(content) }
}

/// Removes a file.
pub fn forget(common_dir: &Path, name: &str) {
    let _ = fs::remove_file(folder(common_dir).join(name));
}
