//! Files that survive a power cut, in folders that only their owner can read.
//!
//! Such a file is written under a temporary name, synced and renamed, and its folder is synced: two syncs, after which it
//! is there whole or not at all. [`write`] is for the record that a developer waits for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;

use crate::disk;

/// The end of a temporary name.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Creates `dir` with its parents, or checks it; takes group's and others' permissions away.
/// Returns its real path.
pub(crate) fn private_folder(dir: &Path) -> io::Result<PathBuf> {
    match fs::metadata(dir) {
        Ok(found) => {
            let mode = found.mode() & 0o7777;
            if mode & 0o077 != 0 {
                fs::set_permissions(dir, fs::Permissions::from_mode(mode & 0o700))?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            // Or a power cut takes the new folder with everything in it. One that cannot be opened cannot be synced.
            for above in missing.iter().filter_map(|made| made.parent()) {
                let _ = sync_folder(above);
            }
        }
        Err(error) => return Err(error),
    }
    fs::canonicalize(dir)
}

/// The same for a folder inside one of ours, which must not be a link: nobody but us has a reason to make one.
pub(crate) fn own_folder(dir: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(dir).is_ok_and(|found| found.is_symlink()) {
        return Err(io::Error::other(format!("{} is a symbolic link, which is not followed", dir.display())));
    }
    private_folder(dir)
}

/// Makes what was created, renamed or removed in `dir` survive a power cut.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A temporary name and a name for a new file: they begin with the time, so that names sort by age, and the second
/// ends with `suffix`.
pub(crate) fn names(suffix: &str, now: Timestamp) -> (String, String) {
    let stem = stem(now);
    (format!("{stem}{TEMPORARY}"), format!("{stem}{suffix}"))
}

/// Writes a new file into `dir`, creating that where it is missing, under a name by [`names`]: for content that tells
/// whether it is whole. It is renamed before it is synced, and the folder is synced only where the file's sync does not see
/// to its name. Acknowledged, it is there whole; a power cut before that may leave a part of it.
pub(crate) fn write(dir: &Path, suffix: &str, now: Timestamp, parts: &[&[u8]]) -> io::Result<()> {
    let dir = own_folder(dir)?;
    let (temporary, name) = names(suffix, now);
    let (temporary, path) = (dir.join(temporary), dir.join(name));
    let write = || -> io::Result<()> {
        let file = create(&temporary, parts)?;
        fs::rename(&temporary, &path)?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // Never acknowledged, so nobody counts on it; and a full disk needs the room.
        let _ = fs::remove_file(&temporary);
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    if disk::disk(&dir).is_ok_and(|disk| disk.syncs_names()) { Ok(()) } else { sync_folder(&dir) }
}

/// Writes the file `name` into `dir`, in place of what had that name; `dir` is created where it is missing.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let dir = own_folder(dir)?;
    let temporary = dir.join(format!("{}{TEMPORARY}", stem(Timestamp::now())));
    // Synced under its temporary name: a cut leaves the old content or the new one.
    let write = || -> io::Result<()> {
        create(&temporary, &[content])?.sync_all()?;
        fs::rename(&temporary, dir.join(name))
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(&dir)
}

fn create(path: &Path, parts: &[&[u8]]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    Ok(file)
}

/// Time, process and number: a name that is this writer's own.
fn stem(now: Timestamp) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{:020}-{}-{number}", now.as_microsecond(), std::process::id())
}
