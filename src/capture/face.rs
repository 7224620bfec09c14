//! What a commit's tree shows at first sight: its top folders, its readme and its manifests; and, for a closer
//! look, the paths of all its files. Whoever infers what kind of repository it is asks for these.
//!
//! The face costs one tree, which the comparison with the parent has read already, and an id of it is made
//! without reading the texts, so that a hook can know a face again. Limits: 512 names, 4 texts of which the
//! first 8 KiB count, contents above 256 KiB not at all; 20 000 paths.

use std::collections::BTreeSet;

use git2::Oid;
use sha2::{Digest, Sha256};

use super::blobs::{Blobs, Role};
use super::tree_walk::{self, Side};
use super::{CaptureError, CommitId, Repo, unreadable};
use crate::hex::hex;

/// Names of folders that are looked at.
const MAX_NAMES: usize = 512;
/// Texts that are read.
const MAX_TEXTS: usize = 4;
/// The beginning of a text that counts.
const MAX_TEXT: usize = 8 << 10;
/// Contents above this are not read.
const MAX_BLOB: u64 = 256 << 10;
/// Paths that a closer look lists.
const MAX_PATHS: usize = 20_000;

/// Files of the top folder that say what a repository is.
const TELLING: &[&str] =
    &["package.json", "pom.xml", "go.mod", "setup.py", "pyproject.toml", "cargo.toml", "composer.json"];

/// The first sight of a commit's tree.
#[derive(Clone, Debug)]
pub struct Face {
    /// Equal faces have equal ids, on any machine; lower-case hex.
    pub id: String,
    /// Names of the top folders and of solution files.
    pub names: Vec<String>,
    texts: Vec<Side>,
}

impl Repo {
    /// The face of a commit.
    ///
    /// # Errors
    /// The commit or its top tree cannot be read.
    pub fn face(&self, id: &CommitId) -> Result<Face, CaptureError> {
        let odb = self.odb()?;
        let tree = self.tree_of(&odb, &id.hex()).ok_or_else(|| unreadable(id, "its tree is absent"))?;
        let mut face = Face { id: String::new(), names: Vec::new(), texts: Vec::new() };
        let mut hash = Sha256::new();
        let listed = tree_walk::each_top_entry(&odb, tree, |name, folder, side| {
            let solution = name.len().checked_sub(4).and_then(|from| name.get(from..));
            let names_it = folder || solution.is_some_and(|end| end.eq_ignore_ascii_case(b".sln"));
            let readme = name.get(..6).is_some_and(|begin| begin.eq_ignore_ascii_case(b"readme"));
            let telling =
                readme || TELLING.iter().any(|telling| telling.as_bytes().eq_ignore_ascii_case(name));
            if names_it && face.names.len() < MAX_NAMES {
                hash.update(name);
                hash.update([0]);
                face.names.push(String::from_utf8_lossy(name).into_owned());
            } else if telling && side.is_file() && face.texts.len() < MAX_TEXTS {
                hash.update(side.id.as_bytes());
                face.texts.push(side);
            }
        });
        if !listed {
            return Err(unreadable(id, "its tree is absent"));
        }
        face.id = hex(&hash.finalize()[..16]);
        Ok(face)
    }

    /// The beginnings of a face's texts; what is absent or too large is left out.
    ///
    /// # Errors
    /// The object database cannot be opened.
    pub fn face_texts(&self, face: &Face) -> Result<Vec<String>, CaptureError> {
        let odb = self.odb()?;
        let blobs = Blobs::new(&odb);
        let read = |side: &Side| {
            let content = blobs.read(side.id, Role::New, MAX_BLOB).ok()?;
            Some(String::from_utf8_lossy(&content[..content.len().min(MAX_TEXT)]).into_owned())
        };
        Ok(face.texts.iter().filter_map(read).collect())
    }

    /// The paths of a commit's files in Git's order, at most 20 000.
    ///
    /// # Errors
    /// The commit cannot be read. Trees that are absent are left out.
    pub fn paths(&self, id: &CommitId) -> Result<Vec<Vec<u8>>, CaptureError> {
        let odb = self.odb()?;
        let tree: Oid = self.tree_of(&odb, &id.hex()).ok_or_else(|| unreadable(id, "its tree is absent"))?;
        let mut absent = BTreeSet::new();
        let changes = tree_walk::listed(&odb, tree, MAX_PATHS, &mut absent);
        Ok(changes.into_iter().map(|change| change.path).collect())
    }
}
