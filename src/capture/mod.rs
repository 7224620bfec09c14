//! Reads commits from a Git repository: the only room that names libgit2.
//!
//! [`Repo`] opens a repository wherever Git would find it and turns a commit into
//! [`CommitFacts`]. Commits, trees and blobs are read through libgit2's object database and compared
//! here (see `tree_walk` and `lines`), which is several times faster than libgit2's own diff and bounded
//! in bytes and files (see `content`).
//!
//! Invariants:
//! * The same commit gives the same facts on every machine: every limit counts bytes, files or lines.
//! * What could not be read is in [`CommitFacts::incomplete`], never silently missing.
//! * Nothing here reaches the network: absent objects of a partial clone stay absent.
//!
//! Not looked at, on purpose: `.gitattributes` (binary follows from content), replacement refs and grafts
//! (a record is about the commit that the id names).

mod blobs;
mod commit;
mod content;
mod differ;
mod error;
mod face;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lines;
mod merge;
mod origins;
mod reconcile;
mod reflog;
mod renames;
mod revisions;
mod room;
mod settings;
mod tree_walk;
mod zlib;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Once;

pub use error::CaptureError;
pub use face::Face;
pub use origins::{Lineage, Versions};
pub use reconcile::{Cursor, Found, News};
pub use revisions::{Roots, Unpublished};
pub use settings::GitSetting;

use crate::facts::{CommitFacts, Incomplete};
use blobs::{Blobs, Role};
use content::Reader;
use git2::{ObjectFormat, ObjectType, Odb, Oid, RepositoryOpenFlags};

/// Files above this size, 4 MiB, are listed but not read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The file that a repository carries to describe itself.
const CARRIED: &[u8] = b".gitops-agent.toml";

/// Above this size, 64 KiB, a carried file is ignored.
const MAX_CARRIED_BYTES: u64 = 64 << 10;

/// The id of a commit, SHA-1 or SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(Oid);

impl CommitId {
    /// Takes a full id in hex (40 or 64 characters); none for anything else.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let format = match hex.len() {
            40 => ObjectFormat::Sha1,
            64 => ObjectFormat::Sha256,
            _ => return None,
        };
        Oid::from_str_ext(hex, format).ok().map(Self)
    }

    /// The full id in lower-case hex.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.to_string()
    }
}

impl std::fmt::Display for CommitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for CommitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// An open repository. Cheap to open (about 0.1 ms); one per thread.
pub struct Repo {
    inner: git2::Repository,
}

/// A repository being read: keeps recent contents, so read neighbouring commits through the same one.
pub struct Reading<'r> {
    repo: &'r Repo,
    blobs: Blobs<'r>,
}

impl std::ops::Deref for Reading<'_> {
    type Target = Repo;

    fn deref(&self) -> &Repo {
        self.repo
    }
}

impl Repo {
    /// Opens the repository that `dir` is in, as `git -C DIR` would find it: worktrees, submodules and
    /// bare repositories included.
    ///
    /// libgit2 itself honours `GIT_CONFIG_GLOBAL`, `GIT_CONFIG_SYSTEM` and `GIT_CONFIG_NOSYSTEM`, so that
    /// hook and command line see the same settings, but also `GIT_OBJECT_DIRECTORY` and `GIT_WORK_TREE`:
    /// whoever runs inside a hook of another repository clears those first. `GIT_DIR` does not count.
    ///
    /// # Errors
    /// No repository there, one of another user, or one that libgit2 cannot read.
    pub fn open(dir: &Path) -> Result<Self, CaptureError> {
        register_extensions()?;
        let no_ceiling: [&Path; 0] = [];
        let inner = git2::Repository::open_ext(dir, RepositoryOpenFlags::FROM_ENV, no_ceiling)
            .map_err(|error| CaptureError::from_open(dir, &error))?;
        Ok(Self { inner })
    }

    /// Opens the repository whose worktree or own folder is `dir`, never one around it.
    ///
    /// # Errors
    /// As [`Repo::open`]; [`CaptureError::NotARepository`] also where there is another one only.
    pub fn open_exact(dir: &Path) -> Result<Self, CaptureError> {
        let repo = Self::open(dir)?;
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let wanted = real(dir);
        let is_it = |path: &Path| path == dir || wanted.is_some() && real(path) == wanted;
        if repo.workdir().is_some_and(is_it) || is_it(repo.git_dir()) {
            return Ok(repo);
        }
        Err(CaptureError::NotARepository { path: dir.to_owned() })
    }

    /// Opens the repository that Git announces to a hook by `GIT_DIR` and its companions, else the one
    /// of the current directory.
    ///
    /// # Errors
    /// As [`Repo::open`].
    pub fn open_from_env() -> Result<Self, CaptureError> {
        register_extensions()?;
        let inner = git2::Repository::open_from_env()
            .map_err(|error| CaptureError::from_open(Path::new("."), &error))?;
        Ok(Self { inner })
    }

    /// Sets libgit2's caches for reading much of a history. Of the whole process; before any thread starts.
    pub fn tune_for_history() {
        #[expect(unsafe_code, reason = "libgit2's options are unguarded globals: set before threads start")]
        // SAFETY: plain assignments of numbers; the documented contract asks for no other user meanwhile.
        let set = unsafe {
            // Contents have a cache of their own (`blobs`). Packs are mapped in pieces, not whole: what
            // is mapped counts as this process's memory.
            git2::opts::set_cache_object_limit(ObjectType::Tree, 256 << 10)
                .and_then(|()| git2::opts::set_cache_max_size(32 << 20))
                .and_then(|()| git2::opts::set_mwindow_size(8 << 20))
                .and_then(|()| git2::opts::set_mwindow_mapped_limit(48 << 20))
        };
        // Only unknown object types are refused; without the caches everything still works.
        debug_assert!(set.is_ok());
    }

    /// The repository's own folder: of a linked worktree the one below `worktrees/`.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        self.inner.path()
    }

    /// The folder that all worktrees of the repository share.
    #[must_use]
    pub fn common_dir(&self) -> &Path {
        self.inner.commondir()
    }

    /// Whether the commit is here.
    #[must_use]
    pub fn has(&self, id: &CommitId) -> bool {
        self.inner.odb().is_ok_and(|odb| odb.exists(id.0))
    }

    /// The root of the checked-out files; none in a bare repository.
    #[must_use]
    pub fn workdir(&self) -> Option<&Path> {
        self.inner.workdir()
    }

    /// Lets `read` read commits.
    ///
    /// # Errors
    /// Where the object database cannot be opened.
    pub fn reading<T>(&self, read: impl FnOnce(&Reading<'_>) -> T) -> Result<T, CaptureError> {
        let odb = self.odb()?;
        Ok(read(&Reading { repo: self, blobs: Blobs::new(&odb) }))
    }

    /// Reads one commit. See [`Reading::facts`].
    ///
    /// # Errors
    /// As there.
    pub fn facts(&self, id: &CommitId) -> Result<CommitFacts, CaptureError> {
        self.reading(|reading| reading.facts(id))?
    }

    /// When a commit was made, by its committer's clock; `None` where it cannot be read.
    #[must_use]
    pub fn committed_at(&self, id: &CommitId) -> Option<jiff::Timestamp> {
        let odb = self.odb().ok()?;
        let object = odb.read(id.0).ok()?;
        jiff::Timestamp::from_second(commit::commit_time(object.data())).ok()
    }

    /// The repository's own `.gitops-agent.toml` in the tree of a commit, where it is there and at most 64 KiB.
    ///
    /// # Errors
    /// Where the commit cannot be read.
    pub fn carried(&self, id: &CommitId) -> Result<Option<Vec<u8>>, CaptureError> {
        let odb = self.odb()?;
        let tree = self.tree_of(&odb, &id.hex()).ok_or_else(|| unreadable(id, "its tree is not here"))?;
        Ok(carried(&Blobs::new(&odb), tree))
    }

    fn odb(&self) -> Result<Odb<'_>, CaptureError> {
        self.inner.odb().map_err(CaptureError::git("opening its object database"))
    }

    fn parse_id(&self, hex: &str) -> Option<Oid> {
        CommitId::from_hex(hex).map(|id| id.0)
    }

    /// The tree of a commit; none where the commit is absent.
    fn tree_of(&self, odb: &Odb<'_>, commit: &str) -> Option<Oid> {
        let object = odb.read(self.parse_id(commit)?).ok()?;
        let tree = object.data().strip_prefix(b"tree ")?;
        let end = memchr::memchr(b'\n', tree)?;
        self.parse_id(std::str::from_utf8(&tree[..end]).ok()?)
    }
}

impl Reading<'_> {
    /// Reads one commit. See [`CommitFacts`].
    ///
    /// # Errors
    /// Only where the commit object itself cannot be read; anything else that is absent is noted in
    /// [`CommitFacts::incomplete`].
    pub fn facts(&self, id: &CommitId) -> Result<CommitFacts, CaptureError> {
        let header = {
            let object = self.blobs.odb.read(id.0).map_err(|error| unreadable(id, error.message()))?;
            if object.kind() != ObjectType::Commit {
                return Err(unreadable(id, "it is not a commit"));
            }
            commit::parse(object.data())
        };
        let tree = self.parse_id(&header.tree).ok_or_else(|| unreadable(id, "its header names no tree"))?;

        let odb = self.blobs.odb;
        let mut incomplete = BTreeSet::new();
        let parents: Vec<Option<Oid>> =
            header.parents.iter().map(|parent| self.tree_of(odb, parent)).collect();
        if parents.iter().any(Option::is_none) {
            incomplete.insert(Incomplete::ParentAbsent);
        }
        let is_merge = parents.len() > 1;
        let merged = is_merge.then(|| match parents.iter().copied().collect::<Option<Vec<Oid>>>() {
            Some(parents) => merge::files(&self.blobs, tree, &parents, &mut incomplete),
            None => Vec::new(),
        });
        let mut changes = match parents.first() {
            None => tree_walk::changes(odb, None, Some(tree), &mut incomplete),
            Some(Some(parent)) => tree_walk::changes(odb, Some(*parent), Some(tree), &mut incomplete),
            Some(None) => Vec::new(),
        };
        renames::detect(&self.blobs, &mut changes);
        let mut reader = Reader::new(&self.blobs, &mut incomplete);
        let files = changes.into_iter().map(|change| reader.changed_file(change, !is_merge)).collect();

        Ok(CommitFacts {
            id: id.hex(),
            parents: header.parents,
            message: header.message,
            author: header.author,
            committer: header.committer,
            author_time: header.author_time,
            commit_time: header.commit_time,
            signature: header.signature,
            files,
            merged,
            incomplete: incomplete.into_iter().collect(),
            carried: carried(&self.blobs, tree),
        })
    }
}

fn unreadable(id: &CommitId, reason: &str) -> CaptureError {
    CaptureError::Commit { id: id.hex(), reason: reason.to_owned() }
}

fn carried(blobs: &Blobs<'_>, tree: Oid) -> Option<Vec<u8>> {
    let side = tree_walk::top_entry(blobs.odb, tree, CARRIED).filter(|side| side.is_file())?;
    Some(blobs.read(side.id, Role::New, MAX_CARRIED_BYTES).ok()?.to_vec())
}

/// Partial clones carry an extension that libgit2 does not know and need not: absent objects are absent.
fn register_extensions() -> Result<(), CaptureError> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        zlib::linked();
        room::bound();
        // Nothing is written here, and what Git wrote it has hashed.
        git2::opts::strict_hash_verification(false);
        #[expect(unsafe_code, reason = "libgit2's list of extensions is an unguarded global: set once, here")]
        // SAFETY: `Once` keeps every other opening of a repository waiting until this is done.
        let set = unsafe { git2::opts::set_extensions(&["partialclone"]) };
        result = set.map_err(CaptureError::git("allowing partial clones"));
    });
    result
}
