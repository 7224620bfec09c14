//! Contents from the object database, the recent ones kept.
//!
//! Over a history each version of a file is asked for twice, as the new and later as the old one. libgit2's own
//! cache evicts at random, which costs what it saves. Here a content that was replaced makes room first, which
//! spares one read in six: at most about 16 MiB are kept for each [`super::Reading`], contents above 256 KiB never.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use git2::{ErrorCode, ObjectType, Odb, OdbObject, Oid};

use super::{MAX_FILE_BYTES, room};

/// Contents above this size are not kept.
const MAX_KEPT: usize = 256 << 10;

/// What is kept of the versions that came, and of those that went.
const MAX_NEW: usize = 14 << 20;
const MAX_OLD: usize = 2 << 20;

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

/// What became of reading a content.
pub(super) enum Fetched<'r> {
    Read(Blob<'r>),
    /// With its size in bytes.
    TooLarge(u64),
    /// Absent, damaged or no blob, with its size in bytes where that is known.
    Absent(Option<u64>),
}

impl<'r> Fetched<'r> {
    fn of(object: OdbObject<'r>) -> Self {
        if object.kind() == ObjectType::Blob { Self::Read(Blob(Rc::new(object))) } else { Self::Absent(None) }
    }

    pub(super) fn blob(self) -> Option<Blob<'r>> {
        match self {
            Self::Read(blob) => Some(blob),
            Self::TooLarge(_) | Self::Absent(_) => None,
        }
    }
}

/// Reads contents.
pub(super) struct Blobs<'r> {
    pub(super) odb: &'r Odb<'r>,
    recent: RefCell<Recent<'r>>,
}

impl<'r> Blobs<'r> {
    pub(super) fn new(odb: &'r Odb<'r>) -> Self {
        let recent = Recent { new: Generations::new(MAX_NEW), old: Generations::new(MAX_OLD) };
        Self { odb, recent: RefCell::new(recent) }
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

    /// A whole content of at most `most` bytes, which are at most [`MAX_FILE_BYTES`].
    pub(super) fn read(&self, id: Oid, role: Role, most: u64) -> Fetched<'r> {
        let mut recent = self.recent.borrow_mut();
        let fetched = recent.get(id, role).map_or_else(
            || {
                let fetched = self.fetch(id);
                if let Fetched::Read(content) = &fetched
                    && content.len() <= MAX_KEPT
                {
                    recent.put(id, content.clone(), role);
                }
                fetched
            },
            Fetched::Read,
        );
        match fetched {
            Fetched::Read(content) if content.len() as u64 > most => Fetched::TooLarge(content.len() as u64),
            fetched => fetched,
        }
    }

    /// Reads a content that is not above the limit of a file. Of one that is, libgit2 inflates nothing but what it may
    /// be made from.
    fn fetch(&self, id: Oid) -> Fetched<'r> {
        let refused = match room::for_contents(|| self.odb.read(id)) {
            Ok(object) => return Fetched::of(object),
            Err(error) => error,
        };
        if refused.code() == ErrorCode::NotFound {
            return Fetched::Absent(None);
        }
        // Damaged, too large, or made from something that is.
        match self.odb.read_header(id) {
            Ok((size, ObjectType::Blob)) if size as u64 > MAX_FILE_BYTES => Fetched::TooLarge(size as u64),
            Ok((size, ObjectType::Blob)) => {
                self.odb.read(id).map_or(Fetched::Absent(Some(size as u64)), Fetched::of)
            }
            _ => Fetched::Absent(None),
        }
    }
}
