//! Contents from the object database, the recent ones kept.
//!
//! Over a history each version of a file is asked for twice, as the new and as the old one, and once more
//! where a rename is looked for. libgit2's own cache evicts at random, which costs what it saves; this one
//! forgets the older half: at most about 16 MiB for each open repository, contents above 256 KiB never.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use git2::{ObjectType, Odb, Oid};
// Defines zlib's functions in Rust: libgit2 is linked with them and not with the C code, half as slow again. Named
// after `git2`, because the linker takes the first definition that it meets; a test below watches it.
use libz_rs_sys as _;

/// Contents above this size are not kept.
const MAX_KEPT: usize = 256 << 10;

/// When the younger half holds this much it becomes the older one.
const HALF: usize = 8 << 20;

/// Recent contents, in two generations.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<Oid, Arc<[u8]>>,
    old: HashMap<Oid, Arc<[u8]>>,
    /// Bytes in `young`.
    bytes: usize,
}

impl Recent {
    fn get(&mut self, id: Oid) -> Option<Arc<[u8]>> {
        if let Some(content) = self.young.get(&id) {
            return Some(Arc::clone(content));
        }
        let content = self.old.remove(&id)?;
        self.put(id, Arc::clone(&content));
        Some(content)
    }

    fn put(&mut self, id: Oid, content: Arc<[u8]>) {
        if self.bytes + content.len() > HALF {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += content.len();
        self.young.insert(id, content);
    }
}

/// Reads contents.
#[derive(Clone, Copy)]
pub(super) struct Blobs<'r> {
    pub(super) odb: &'r Odb<'r>,
    pub(super) recent: &'r RefCell<Recent>,
}

impl Blobs<'_> {
    /// A content's size in bytes, without inflating it; none where it is absent or no blob.
    pub(super) fn size(self, id: Oid) -> Option<u64> {
        if let Some(content) = self.recent.borrow_mut().get(id) {
            return Some(content.len() as u64);
        }
        match self.odb.read_header(id) {
            Ok((size, ObjectType::Blob)) => Some(size as u64),
            _ => None,
        }
    }

    /// A whole content; none where it is absent, damaged or no blob. Ask for the size first.
    pub(super) fn read(self, id: Oid) -> Option<Arc<[u8]>> {
        let mut recent = self.recent.borrow_mut();
        if let Some(content) = recent.get(id) {
            return Some(content);
        }
        let object = self.odb.read(id).ok().filter(|object| object.kind() == ObjectType::Blob)?;
        let content: Arc<[u8]> = object.data().into();
        if content.len() <= MAX_KEPT {
            recent.put(id, Arc::clone(&content));
        }
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn libgit2_inflates_with_zlib_rs() {
        #[expect(unsafe_code, reason = "asks the linked zlib for its version")]
        // SAFETY: takes nothing and gives a static string.
        let version = unsafe { std::ffi::CStr::from_ptr(libz_sys::zlibVersion()) };
        assert!(version.to_string_lossy().contains("zlib-rs"), "{version:?}");
    }
}
