//! The packs of the user's rules folder as they last loaded, for the hook that meets them broken.
//!
//! A rules folder is edited, pulled and mounted while people commit. What loads well is copied into the agent's
//! data folder, one file a rules folder; a hook that finds the folder broken judges by that copy, and by the built-in
//! packs alone where there never was one. The record's digest of rules then is that of the packs that judged.
//!
//! Invariants:
//! * The copy's name holds the digest of its content: one look at a name (microseconds) tells that nothing has to be
//!   written, and a damaged copy is not used.
//! * Copies and marks are written whole or not at all, with permissions 0600 in a folder of 0700.
//! * Nothing here costs a hook anything where no rules folder is set.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable;
use crate::hex::hex;
use crate::rules::PackTexts;

/// The folder below the agent's data folder.
const FOLDER: &str = "rules";
/// The end of a copy's name.
const COPY: &str = ".packs";
/// The end of a mark's name.
const BROKEN: &str = ".broken";
/// A larger file is none of ours: 64 files of 512 KiB a pack, and few packs.
const MAX_BYTES: u64 = 256 << 20;

/// What is kept of one rules folder.
#[derive(Clone, Debug)]
pub struct LastGood {
    dir: PathBuf,
    /// Tells rules folders apart: part of a hash of the path.
    key: String,
}

/// Packs as they last loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// Where they were.
    pub folder: PathBuf,
    /// When they first loaded like this.
    pub kept_at: Timestamp,
    /// Their files.
    pub texts: PackTexts,
}

/// Since when a rules folder does not load.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    since: Timestamp,
}

impl LastGood {
    /// What the agent with that data folder keeps of the rules folder, whose path should be absolute.
    #[must_use]
    pub fn of(data: &Path, folder: &Path) -> Self {
        let mut key = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes()));
        key.truncate(16);
        Self { dir: data.join(FOLDER), key }
    }

    /// Keeps packs that have loaded, unless they are kept already, and forgets that the folder was broken.
    ///
    /// # Errors
    /// If the copy is not durably on the disk.
    pub fn keep(&self, folder: &Path, texts: &PackTexts, now: Timestamp) -> std::io::Result<()> {
        let name = format!("{}-{}{COPY}", self.key, texts.digest());
        if !self.dir.join(&name).exists() {
            let copy = Copy { folder: folder.to_owned(), kept_at: now, texts: texts.clone() };
            durable::replace(&self.dir, &name, &serde_json::to_vec(&copy)?)?;
            for (path, other) in self.copies()? {
                if other != name {
                    remove(&path)?;
                }
            }
        }
        remove(&self.mark())
    }

    /// The packs as they last loaded; none where they never did, or the copy is damaged.
    #[must_use]
    pub fn copy(&self) -> Option<Copy> {
        // More than one only where a process died between writing and clearing up: the newest counts.
        let copies = self.copies().ok()?.into_iter().filter_map(|(path, name)| {
            let small = std::fs::symlink_metadata(&path)
                .is_ok_and(|found| found.is_file() && found.len() < MAX_BYTES);
            let bytes = small.then(|| std::fs::read(&path).ok()).flatten()?;
            let copy: Copy = serde_json::from_slice(&bytes).ok()?;
            (name == format!("{}-{}{COPY}", self.key, copy.texts.digest())).then_some(copy)
        });
        copies.max_by_key(|copy| copy.kept_at)
    }

    /// Since when the folder does not load: `now`, unless it was said before. Best effort: where it cannot be written
    /// down, it is said anew each time.
    #[must_use]
    pub fn broken_since(&self, now: Timestamp) -> Timestamp {
        let known =
            std::fs::read(self.mark()).ok().and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
        if let Some(mark) = known {
            return mark.since;
        }
        if let Ok(bytes) = serde_json::to_vec(&Mark { since: now }) {
            let _ = durable::replace(&self.dir, &format!("{}{BROKEN}", self.key), &bytes);
        }
        now
    }

    fn mark(&self) -> PathBuf {
        self.dir.join(format!("{}{BROKEN}", self.key))
    }

    /// The copies of this rules folder, with their names.
    fn copies(&self) -> std::io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(&format!("{}-", self.key)) && name.ends_with(COPY) {
                found.push((path, name));
            }
        }
        Ok(found)
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn texts(text: &str) -> PackTexts {
        serde_json::from_value(serde_json::json!([[["own/pack.toml", text]]])).expect("texts")
    }

    #[test]
    fn the_newest_good_packs_are_kept_and_no_others() {
        let data = tempfile::tempdir().expect("a folder");
        let (one, other) =
            (LastGood::of(data.path(), Path::new("/r")), LastGood::of(data.path(), Path::new("/s")));
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        assert!(one.copy().is_none());
        one.keep(Path::new("/r"), &texts("a"), at(1)).expect("kept");
        other.keep(Path::new("/s"), &texts("x"), at(1)).expect("kept");
        one.keep(Path::new("/r"), &texts("b"), at(2)).expect("kept");
        one.keep(Path::new("/r"), &texts("b"), at(3)).expect("kept");
        let copy = one.copy().expect("a copy");
        assert_eq!((copy.texts, copy.kept_at, copy.folder), (texts("b"), at(2), PathBuf::from("/r")));
        assert_eq!(other.copy().expect("a copy").texts, texts("x"));
        let files: Vec<_> = std::fs::read_dir(data.path().join(FOLDER)).expect("listed").flatten().collect();
        assert_eq!(files.len(), 2);
        for file in files {
            assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_copy_is_none() {
        let data = tempfile::tempdir().expect("a folder");
        let kept = LastGood::of(data.path(), Path::new("/r"));
        kept.keep(Path::new("/r"), &texts("weight = 10"), Timestamp::UNIX_EPOCH).expect("kept");
        let (path, _) = kept.copies().expect("listed").remove(0);
        let text = std::fs::read_to_string(&path).expect("read").replace("10", "11");
        std::fs::write(&path, text).expect("written");
        assert!(kept.copy().is_none());
    }

    #[test]
    fn broken_since_is_said_once_and_forgotten_when_packs_load() {
        let data = tempfile::tempdir().expect("a folder");
        let kept = LastGood::of(data.path(), Path::new("/r"));
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        assert_eq!(kept.broken_since(at(5)), at(5));
        assert_eq!(kept.broken_since(at(9)), at(5));
        kept.keep(Path::new("/r"), &texts("a"), at(10)).expect("kept");
        assert_eq!(kept.broken_since(at(11)), at(11));
    }
}
