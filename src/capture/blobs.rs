//! Contents from the object database, the recent ones kept.
//!
//! Over a history each version of a file is asked for twice, as the new and later as the old one. libgit2's own
//! cache evicts at random, which costs what it saves. Here a content that was replaced makes room first, which
//! spares one read in six: at most about 16 MiB are kept for each [`super::Reading`], contents above 256 KiB never.
//! Manifests are kept once more beside them, since what is made of one outlasts its commit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Odb, OdbObject, Oid};

use super::{MAX_FILE_BYTES, room};
use crate::facts::ManifestVersion;

/// Contents above this size are not kept.
const MAX_KEPT: usize = 256 << 10;

/// What is kept of the versions that came, and of those that went.
const MAX_NEW: usize = 14 << 20;
const MAX_OLD: usize = 2 << 20;

/// Bytes of manifests that are kept beside them; what is made of each takes four times as much at most.
const MAX_MANIFESTS: usize = 2 << 20;

/// A content as libgit2 holds it, which spares a copy.
#[derive(Clone)]
pub(super) struct Blob<'r>(Rc<OdbObject<'r>>);

impl std::ops::Deref for Blob<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.data()
    }
}

/// As what a content is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// What a commit wrote: the next commit to the file reads it as the old one.
    New,
    /// What a commit replaced: only a branch that changes the same file reads it again.
    Old,
}

/// Contents in two generations: when the younger is full it becomes the older one, which is forgotten.
struct Generations<'r> {
    young: HashMap<Oid, Blob<'r>>,
    old: HashMap<Oid, Blob<'r>>,
    /// Bytes in `young`.
    bytes: usize,
    /// Bytes that `young` may hold.
    limit: usize,
}

impl<'r> Generations<'r> {
    fn new(bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), bytes: 0, limit: bytes / 2 }
    }

    fn look(&self, id: Oid) -> Option<&Blob<'r>> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    fn take(&mut self, id: Oid) -> Option<Blob<'r>> {
        if let Some(content) = self.young.remove(&id) {
            self.bytes -= content.len();
            return Some(content);
        }
        self.old.remove(&id)
    }

    fn put(&mut self, id: Oid, content: Blob<'r>) {
        if self.bytes + content.len() > self.limit {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += content.len();
        self.young.insert(id, content);
    }
}

/// Recent contents.
struct Recent<'r> {
    new: Generations<'r>,
    old: Generations<'r>,
}

impl<'r> Recent<'r> {
    fn look(&self, id: Oid) -> Option<&Blob<'r>> {
        self.new.look(id).or_else(|| self.old.look(id))
    }

    fn get(&mut self, id: Oid, role: Role) -> Option<Blob<'r>> {
        let content = self.new.take(id).or_else(|| self.old.take(id))?;
        self.put(id, content.clone(), role);
        Some(content)
    }

    fn put(&mut self, id: Oid, content: Blob<'r>, role: Role) {
        let kept = if role == Role::New { &mut self.new } else { &mut self.old };
        kept.put(id, content);
    }
}

/// A content; where it is not read, its size in bytes as far as that is known.
pub(super) type Fetched<'r> = Result<Blob<'r>, Option<u64>>;

/// Reads contents.
pub(super) struct Blobs<'r> {
    pub(super) odb: &'r Odb<'r>,
    recent: RefCell<Recent<'r>>,
    manifests: RefCell<Manifests>,
}

/// Versions of manifests, each of them soon the old one of another commit; all are forgotten when they are too many.
#[derive(Default)]
struct Manifests {
    versions: HashMap<Oid, Arc<ManifestVersion>>,
    bytes: usize,
}

impl<'r> Blobs<'r> {
    pub(super) fn new(odb: &'r Odb<'r>) -> Self {
        let recent = Recent { new: Generations::new(MAX_NEW), old: Generations::new(MAX_OLD) };
        Self { odb, recent: RefCell::new(recent), manifests: RefCell::default() }
    }

    /// The version of a manifest; none where the path is no manifest's.
    pub(super) fn manifest(&self, id: Oid, path: &[u8], content: &[u8]) -> Option<Arc<ManifestVersion>> {
        let mut kept = self.manifests.borrow_mut();
        if let Some(version) = kept.versions.get(&id).filter(|version| version.fits(path)) {
            return Some(Arc::clone(version));
        }
        let version = Arc::new(ManifestVersion::new(path, content)?);
        if content.len() <= MAX_MANIFESTS {
            if kept.bytes + content.len() > MAX_MANIFESTS {
                *kept = Manifests::default();
            }
            kept.bytes += content.len();
            kept.versions.insert(id, Arc::clone(&version));
        }
        Some(version)
    }

    /// A content's size in bytes, without inflating it; none where it is absent or no blob.
    pub(super) fn size(&self, id: Oid) -> Option<u64> {
        if let Some(content) = self.recent.borrow().look(id) {
            return Some(content.len() as u64);
        }
        match self.odb.read_header(id) {
            Ok((size, ObjectType::Blob)) => Some(size as u64),
            _ => None,
        }
    }

    /// A whole content of at most `most` bytes, which are at most [`MAX_FILE_BYTES`]; not read where it is larger, absent,
    /// damaged or no blob.
    pub(super) fn read(&self, id: Oid, role: Role, most: u64) -> Fetched<'r> {
        let mut recent = self.recent.borrow_mut();
        let content = match recent.get(id, role) {
            Some(content) => content,
            None => {
                let content = self.fetch(id)?;
                if content.len() <= MAX_KEPT {
                    recent.put(id, content.clone(), role);
                }
                content
            }
        };
        let size = content.len() as u64;
        if size <= most { Ok(content) } else { Err(Some(size)) }
    }

    /// Reads a content that is not above the limit of a file. Of one that is, libgit2 inflates nothing but what it may
    /// be made from.
    fn fetch(&self, id: Oid) -> Fetched<'r> {
        let object = match room::for_contents(|| self.odb.read(id)) {
            Err(error) if error.code() == ErrorCode::NotFound => return Err(None),
            // Damaged, too large, or made from something that is.
            Err(_) => match self.odb.read_header(id) {
                Ok((size, ObjectType::Blob)) if size as u64 <= MAX_FILE_BYTES => {
                    self.odb.read(id).map_err(|_| Some(size as u64))?
                }
                Ok((size, ObjectType::Blob)) => return Err(Some(size as u64)),
                _ => return Err(None),
            },
            Ok(object) => object,
        };
        if object.kind() == ObjectType::Blob { Ok(Blob(Rc::new(object))) } else { Err(None) }
    }
}
