//! Reads contents within limits, and turns a change of contents into a [`ChangedFile`].
//!
//! The limits are counted in bytes and files, never in time, so that one commit gives the same facts on
//! every machine: a file above [`MAX_FILE_BYTES`] is listed with its size but not read; after
//! [`MAX_COMMIT_BYTES`] of contents or [`MAX_READ_FILES`] files the rest of the commit is listed only.
//! What was left out is always noted. `.gitattributes` are not looked at: what is binary follows from
//! the content alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::MAX_FILE_BYTES;
use super::blobs::{Blob, Blobs, Role};
use super::differ::Work;
use super::lines::{self, LineDiff};
use super::tree_walk::{Change, Side};
use crate::facts::{
    ChangedFile, ChangedText, FileKind, Incomplete, Manifest, ManifestVersion, RepoPath, Status,
};

/// Contents that are read for the files of one commit, 64 MiB. The judged files of a merge have as much
/// again.
const MAX_COMMIT_BYTES: u64 = 64 << 20;

/// Files whose contents are read for one commit.
const MAX_READ_FILES: u32 = 10_000;

/// One version of a file's content.
pub(super) enum Content<'r> {
    Read(Blob<'r>),
    /// Not in the object database: made here.
    Made(Vec<u8>),
    /// Not read, for a reason that has been noted; the size where it is known.
    Unread(Option<u64>),
}

impl Content<'_> {
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Read(bytes) => Some(bytes),
            Self::Made(bytes) => Some(bytes),
            Self::Unread(_) => None,
        }
    }

    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Read(bytes) => Some(bytes.len() as u64),
            Self::Made(bytes) => Some(bytes.len() as u64),
            Self::Unread(size) => *size,
        }
    }
}

/// Reads contents and keeps the account of the limits.
pub(super) struct Reader<'b, 'r> {
    blobs: &'b Blobs<'r>,
    incomplete: &'b mut BTreeSet<Incomplete>,
    bytes_left: u64,
    files_left: u32,
    /// For comparing lines.
    pub(super) work: Work,
}

impl<'b, 'r> Reader<'b, 'r> {
    pub(super) fn new(blobs: &'b Blobs<'r>, incomplete: &'b mut BTreeSet<Incomplete>) -> Self {
        Self {
            blobs,
            incomplete,
            bytes_left: MAX_COMMIT_BYTES,
            files_left: MAX_READ_FILES,
            work: Work::new(),
        }
    }

    /// Counts a file; `false` where it is one too many.
    pub(super) fn next_file(&mut self) -> bool {
        let room = self.files_left > 0;
        if room {
            self.files_left -= 1;
        } else {
            self.incomplete.insert(Incomplete::CommitTooLarge);
        }
        room
    }

    pub(super) fn read(&mut self, side: Side, role: Role) -> Content<'r> {
        if side.is_submodule() {
            // As Git shows a pointer to a submodule's commit.
            return Content::Made(format!("Subproject commit {}\n", side.id).into_bytes());
        }
        let read = || self.blobs.read(side.id, role, MAX_FILE_BYTES);
        let fetched = if self.bytes_left > 0 {
            read()
        } else {
            // Nothing but an empty file is read any more: to know that it is one, its size is enough.
            match self.blobs.size(side.id) {
                Some(0) => read(),
                size => Err(size),
            }
        };
        let Some(size) = fetched.as_ref().map_or_else(|size| *size, |blob| Some(blob.len() as u64)) else {
            return self.unread(Incomplete::BlobAbsent, None);
        };
        if size > MAX_FILE_BYTES {
            return self.unread(Incomplete::FileTooLarge, Some(size));
        }
        let Some(left) = self.bytes_left.checked_sub(size) else {
            // Nothing smaller is read after this either, so that what is read is a prefix of the list.
            self.bytes_left = 0;
            return self.unread(Incomplete::CommitTooLarge, Some(size));
        };
        self.bytes_left = left;
        match fetched {
            Ok(blob) => Content::Read(blob),
            Err(_) => self.unread(Incomplete::BlobAbsent, Some(size)),
        }
    }

    fn unread(&mut self, why: Incomplete, size: Option<u64>) -> Content<'r> {
        self.incomplete.insert(why);
        Content::Unread(size)
    }

    /// The change of one file, with its lines if they are wanted.
    pub(super) fn changed_file(&mut self, change: Change, want_text: bool) -> ChangedFile {
        let mut file = listed(&change);
        if !self.next_file() {
            file.kind = kind(&change, &[]);
            return file;
        }
        if change.old.map(|side| side.id) == change.new.map(|side| side.id) {
            // Only name or mode changed: one content, no lines.
            let content = change.new.map(|side| self.read(side, Role::New));
            let bytes = content.as_ref().and_then(Content::bytes);
            file.size = content.as_ref().and_then(Content::size);
            file.binary = bytes.is_some_and(lines::is_binary);
            file.old_lines = bytes.filter(|_| !file.binary).map_or(0, lines::count);
            file.kind = kind(&change, bytes.unwrap_or_default());
            return file;
        }
        let old = change.old.map(|side| self.read(side, Role::Old));
        let new = change.new.map(|side| self.read(side, Role::New));
        let shown = new.as_ref().or(old.as_ref());
        file.size = shown.and_then(Content::size);
        file.kind = kind(&change, shown.and_then(Content::bytes).unwrap_or_default());

        let old_bytes = old.as_ref().map_or(Some(&[][..]), Content::bytes);
        let new_bytes = new.as_ref().map_or(Some(&[][..]), Content::bytes);
        file.binary = [old_bytes, new_bytes].into_iter().flatten().any(lines::is_binary);
        if file.binary {
            return file;
        }
        file.old_lines = old_bytes.map_or(0, lines::count);
        if let (Some(old_bytes), Some(new_bytes)) = (old_bytes, new_bytes) {
            compare(&mut file, old_bytes, new_bytes, want_text, &mut self.work);
            if want_text && Manifest::is_one(&change.path) {
                let version = |side: Option<Side>, content: Option<&Content<'_>>| match content? {
                    Content::Read(bytes) => self.blobs.manifest(side?.id, &change.path, bytes),
                    // The id of a submodule's commit may be that of anything else in this repository.
                    other => ManifestVersion::new(&change.path, other.bytes()?).map(Arc::new),
                };
                file.manifest = Some(Manifest::between(
                    version(change.old, old.as_ref()),
                    version(change.new, new.as_ref()),
                ));
            }
        }
        file
    }
}

/// Counts the changed lines and, if wanted, keeps them.
fn compare(file: &mut ChangedFile, old: &[u8], new: &[u8], want_text: bool, work: &mut Work) {
    if old.is_empty() || new.is_empty() {
        (file.insertions, file.deletions) = (lines::count(new), file.old_lines);
        if want_text {
            file.text = ChangedText { added: lines::whole(new), removed: lines::whole(old) };
        }
        return;
    }
    let diff = LineDiff::new(old, new, work);
    (file.insertions, file.deletions) = (diff.insertions(), diff.deletions());
    if want_text {
        file.text = diff.text();
    }
}

/// What a file is, by its path and the beginning of the version that counts.
pub(super) fn kind(change: &Change, content: &[u8]) -> FileKind {
    if change.new.or(change.old).is_some_and(Side::is_submodule) {
        return FileKind::Manifest;
    }
    FileKind::classify(&change.path, content)
}

/// A changed file before its contents are looked at.
pub(super) fn listed(change: &Change) -> ChangedFile {
    let status = match (&change.old_path, change.old, change.new) {
        (Some(_), ..) => Status::Renamed,
        (None, None, _) => Status::Added,
        (None, Some(_), None) => Status::Deleted,
        (None, Some(old), Some(new)) if old.kind() != new.kind() => Status::TypeChanged,
        _ => Status::Modified,
    };
    ChangedFile {
        path: RepoPath::new(change.path.as_slice()),
        old_path: change.old_path.as_deref().map(RepoPath::new),
        status,
        old_mode: change.old.map_or(0, |side| side.mode),
        new_mode: change.new.map_or(0, |side| side.mode),
        insertions: 0,
        deletions: 0,
        old_lines: 0,
        size: None,
        binary: false,
        kind: FileKind::default(),
        text: ChangedText::default(),
        manifest: None,
    }
}
