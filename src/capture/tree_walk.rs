//! Finds changed files by walking trees side by side.
//!
//! Entries are compared by id and mode, and only folders that differ are entered. That is several times
//! faster than libgit2's own tree diff (1.35 s against 0.20 s over 3 002 commits), because nothing is
//! allocated for what did not change.
//!
//! A tree that cannot be read is noted as absent and nothing below it is listed: to list one side alone
//! would turn unchanged files into added ones. Limits, so that no tree can exhaust memory or stack:
//! [`MAX_CHANGES`] files per commit and folders [`MAX_DEPTH`] deep.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use git2::{ObjectType, Odb, OdbObject, Oid};

use crate::facts::Incomplete;

/// Changed files that are listed for one commit.
pub(super) const MAX_CHANGES: usize = 250_000;

/// Folders inside one another. No file system goes deeper: a path has at most 4096 bytes.
const MAX_DEPTH: usize = 512;

const TREE_MODE: u32 = 0o040_000;

/// One version of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) mode: u32,
    pub(super) id: Oid,
}

impl Side {
    /// A pointer to a commit of a submodule.
    pub(super) fn is_submodule(self) -> bool {
        self.kind() == 0o160_000
    }

    /// An ordinary file.
    pub(super) fn is_file(self) -> bool {
        self.kind() == 0o100_000
    }

    /// The part of the mode that tells file, symbolic link and submodule apart.
    pub(super) fn kind(self) -> u32 {
        self.mode & 0o170_000
    }
}

/// A path that differs between two trees.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    /// Path of `old` where it is another one (renames).
    pub(super) old_path: Option<Vec<u8>>,
    pub(super) old: Option<Side>,
    pub(super) new: Option<Side>,
}

/// A path of a merge whose result differs from every parent.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) path: Vec<u8>,
    /// The result; none where the merge deleted what all parents have.
    pub(super) new: Option<Side>,
    /// The path in each parent, in order.
    pub(super) parents: Vec<Option<Side>>,
}

/// What differs between two trees, sorted by path; `None` stands for the empty tree.
pub(super) fn changes(
    odb: &Odb<'_>,
    old: Option<Oid>,
    new: Option<Oid>,
    incomplete: &mut BTreeSet<Incomplete>,
) -> Vec<Change> {
    let mut walk =
        Walk { odb, incomplete, path: Vec::new(), depth: 0, found: Vec::new(), limit: MAX_CHANGES };
    if old != new {
        walk.pair(old, new);
    }
    let mut found = walk.found;
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    found
}

/// What differs from every parent's tree in a merge, sorted by path.
pub(super) fn merged(
    odb: &Odb<'_>,
    new: Oid,
    parents: &[Oid],
    incomplete: &mut BTreeSet<Incomplete>,
) -> Vec<Merged> {
    let parents: Vec<_> = parents.iter().copied().map(Some).collect();
    let mut walk =
        Walk { odb, incomplete, path: Vec::new(), depth: 0, found: Vec::new(), limit: MAX_CHANGES };
    walk.many(Some(new), &parents);
    let mut found = walk.found;
    found.sort_unstable_by(|a: &Merged, b| a.path.cmp(&b.path));
    found
}

/// The files of a tree in Git's order, at most `limit`.
pub(super) fn listed(
    odb: &Odb<'_>,
    tree: Oid,
    limit: usize,
    incomplete: &mut BTreeSet<Incomplete>,
) -> Vec<Change> {
    let mut walk = Walk { odb, incomplete, path: Vec::new(), depth: 0, found: Vec::new(), limit };
    walk.pair(None, Some(tree));
    walk.found
}

/// Calls `each` with name, whether it is a folder, and id of each entry of a commit's top folder; `false` where
/// the tree is absent.
pub(super) fn each_top_entry(odb: &Odb<'_>, tree: Oid, mut each: impl FnMut(&[u8], bool, Side)) -> bool {
    let Some(tree) = read_tree(odb, tree) else { return false };
    for entry in Entries::new(&tree) {
        if let Some(side) = entry.side() {
            each(entry.name, entry.is_tree(), side);
        }
    }
    true
}

/// The entry of a name in a commit's top folder.
pub(super) fn top_entry(odb: &Odb<'_>, tree: Oid, name: &[u8]) -> Option<Side> {
    let tree = read_tree(odb, tree)?;
    Entries::new(&tree).find(|entry| entry.name == name).and_then(|entry| entry.side())
}

fn read_tree<'odb>(odb: &'odb Odb<'_>, id: Oid) -> Option<OdbObject<'odb>> {
    odb.read(id).ok().filter(|object| object.kind() == ObjectType::Tree)
}

#[derive(Clone, Copy)]
struct Entry<'a> {
    mode: u32,
    name: &'a [u8],
    id: &'a [u8],
}

impl Entry<'_> {
    fn is_tree(&self) -> bool {
        self.mode == TREE_MODE
    }

    fn same(&self, other: &Self) -> bool {
        self.id == other.id && self.mode == other.mode
    }

    fn oid(&self) -> Option<Oid> {
        Oid::from_bytes(self.id).ok()
    }

    fn side(&self) -> Option<Side> {
        Some(Side { mode: self.mode, id: self.oid()? })
    }

    /// Git's order: a folder's name counts as if it ended with `/`.
    fn order(&self, other: &Self) -> Ordering {
        let common = self.name.len().min(other.name.len());
        self.name[..common].cmp(&other.name[..common]).then_with(|| {
            let next = |entry: &Self| {
                entry.name.get(common).copied().unwrap_or(if entry.is_tree() { b'/' } else { 0 })
            };
            next(self).cmp(&next(other))
        })
    }
}

/// The entries of a tree object, `mode SP name NUL id`; ends at the first malformed one.
struct Entries<'a> {
    rest: &'a [u8],
    id_len: usize,
}

impl<'a> Entries<'a> {
    fn new(tree: &'a OdbObject<'_>) -> Self {
        Self { rest: tree.data(), id_len: tree.id().as_bytes().len() }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let space = self.rest.iter().take(8).position(|&byte| byte == b' ')?;
        let mode = self.rest[..space].iter().fold(0, |mode, byte| mode << 3 | u32::from(byte & 7));
        let rest = &self.rest[space + 1..];
        let name_len = memchr::memchr(0, rest)?;
        let id = rest.get(name_len + 1..name_len + 1 + self.id_len)?;
        self.rest = &rest[name_len + 1 + self.id_len..];
        Some(Entry { mode, name: &rest[..name_len], id })
    }
}

struct Walk<'w, 'odb, T> {
    odb: &'w Odb<'odb>,
    incomplete: &'w mut BTreeSet<Incomplete>,
    path: Vec<u8>,
    depth: usize,
    found: Vec<T>,
    /// Entries that are found at most.
    limit: usize,
}

impl<T> Walk<'_, '_, T> {
    /// Whether there is room for more; notes it where there is none.
    fn has_room(&mut self) -> bool {
        let room = self.depth < MAX_DEPTH && self.found.len() < self.limit;
        if !room {
            self.incomplete.insert(Incomplete::CommitTooLarge);
        }
        room
    }

    fn absent(&mut self) {
        self.incomplete.insert(Incomplete::TreeAbsent);
    }

    /// Runs `below` with `name` as the current folder.
    fn inside(&mut self, name: &[u8], below: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.extend_from_slice(name);
        self.path.push(b'/');
        self.depth += 1;
        if self.has_room() {
            below(self);
        }
        self.depth -= 1;
        self.path.truncate(length);
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + name.len());
        path.extend_from_slice(&self.path);
        path.extend_from_slice(name);
        path
    }
}

impl Walk<'_, '_, Change> {
    fn pair(&mut self, old: Option<Oid>, new: Option<Oid>) {
        let odb = self.odb;
        let old_tree = old.map(|id| read_tree(odb, id));
        let new_tree = new.map(|id| read_tree(odb, id));
        if matches!(old_tree, Some(None)) || matches!(new_tree, Some(None)) {
            return self.absent();
        }
        let (old_tree, new_tree) = (old_tree.flatten(), new_tree.flatten());
        let mut old = old_tree.iter().flat_map(Entries::new).peekable();
        let mut new = new_tree.iter().flat_map(Entries::new).peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(old), Some(new)) => old.order(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            self.entry(was, is);
        }
    }

    fn entry(&mut self, old: Option<Entry<'_>>, new: Option<Entry<'_>>) {
        if let (Some(old), Some(new)) = (&old, &new)
            && old.same(new)
        {
            return;
        }
        let Some(name) = new.or(old).map(|entry| entry.name) else { return };
        // Equal in Git's order means: both are folders, or neither is.
        if old.or(new).is_some_and(|entry| entry.is_tree()) {
            let (old, new) = (old.and_then(|entry| entry.oid()), new.and_then(|entry| entry.oid()));
            self.inside(name, |walk| walk.pair(old, new));
        } else if self.has_room() {
            let (old, new) = (old.and_then(|entry| entry.side()), new.and_then(|entry| entry.side()));
            let path = self.path_of(name);
            self.found.push(Change { path, old_path: None, old, new });
        }
    }
}

impl Walk<'_, '_, Merged> {
    fn many(&mut self, new: Option<Oid>, parents: &[Option<Oid>]) {
        let odb = self.odb;
        let trees: Vec<_> = std::iter::once(new)
            .chain(parents.iter().copied())
            .map(|id| id.map(|id| read_tree(odb, id)))
            .collect();
        if trees.iter().any(|tree| matches!(tree, Some(None))) {
            return self.absent();
        }
        let trees: Vec<_> = trees.into_iter().map(Option::flatten).collect();
        let mut lists: Vec<_> =
            trees.iter().map(|tree| tree.iter().flat_map(Entries::new).peekable()).collect();
        loop {
            let heads: Vec<_> = lists.iter_mut().map(|list| list.peek().copied()).collect();
            let Some(first) = heads.iter().flatten().copied().min_by(Entry::order) else { return };
            let here: Vec<_> =
                lists.iter_mut().map(|list| list.next_if(|entry| entry.order(&first).is_eq())).collect();
            self.differing(first, here[0], &here[1..]);
        }
    }

    fn differing(&mut self, first: Entry<'_>, new: Option<Entry<'_>>, parents: &[Option<Entry<'_>>]) {
        let differs = parents.iter().all(|parent| match (&new, parent) {
            (Some(new), Some(parent)) => !new.same(parent),
            (None, None) => false,
            _ => true,
        });
        if !differs {
            return;
        }
        if first.is_tree() {
            let new = new.and_then(|entry| entry.oid());
            let parents: Vec<_> = parents.iter().map(|entry| entry.and_then(|entry| entry.oid())).collect();
            self.inside(first.name, |walk| walk.many(new, &parents));
        } else if self.has_room() {
            let parents = parents.iter().map(|entry| entry.and_then(|entry| entry.side())).collect();
            let merged =
                Merged { path: self.path_of(first.name), new: new.and_then(|entry| entry.side()), parents };
            self.found.push(merged);
        }
    }
}
