//! Which commits wrote the lines that a fix removed: blame, as in the SZZ family, over a whole history at once.
//!
//! `git blame` walks back anew for each file. Here every commit's files are read once as pairs of content ids
//! ([`Versions`]), and a line is followed from content to content: whoever produced the content that the fix
//! found either wrote the line or took it over from the content before. Contents say the same in every branch, so
//! that merges need no walk of their own.
//!
//! Only source files are followed, renames included, and only lines that do something: no blank ones, no
//! brackets alone, no comments, no imports.
//!
//! Limits: fixes of more than 20 source files are not followed (they are seldom about one defect), nor lines
//! behind 100 versions of a file, nor contents above 256 KiB. What somebody wrote while merging has no origin.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use git2::Oid;

use super::blobs::{Blob, Blobs, Role};
use super::differ::Work;
use super::lines::{Hunk, LineDiff, is_binary};
use super::tree_walk::{Change, Side};
use super::{CaptureError, CommitId, Reading, renames, tree_walk, unreadable};
use crate::facts::FileKind;

const MAX_FIX_FILES: usize = 20;
const MAX_VERSIONS: usize = 100;
const MAX_BYTES: u64 = 256 << 10;

/// The source files of one commit, before and after, as content ids against each parent.
#[derive(Clone, Debug)]
pub struct Versions {
    merge: bool,
    files: Vec<Version>,
}

#[derive(Clone, Copy, Debug)]
struct Version {
    /// Hashes of the paths.
    path: u64,
    old_path: u64,
    old: Option<Oid>,
    new: Option<Oid>,
}

/// A history's contents by where they came into being: 50 bytes for each changed file.
#[derive(Debug)]
pub struct Lineage {
    commits: Vec<Versions>,
    /// Path and content; commits and their files that made it, in the order of history.
    makers: HashMap<(u64, Oid), Vec<(usize, usize)>>,
}

impl Lineage {
    /// Takes the commits of a history, parents before children.
    #[must_use]
    pub fn new(commits: Vec<Versions>) -> Self {
        let mut makers: HashMap<(u64, Oid), Vec<(usize, usize)>> = HashMap::new();
        for (at, commit) in commits.iter().enumerate() {
            for (file, version) in commit.files.iter().enumerate() {
                if let Some(new) = version.new {
                    makers.entry((version.path, new)).or_default().push((at, file));
                }
            }
        }
        Self { commits, makers }
    }

    /// Who made a content last before `at`, and from what: an ordinary commit rather than the merge that brought it. A merge
    /// that combined it made it from several.
    fn made(&self, path: u64, content: Oid, at: usize) -> Option<(usize, impl Iterator<Item = &Version>)> {
        let makers = self.makers.get(&(path, content))?;
        let before = || makers.iter().rev().map(|(commit, _)| *commit).filter(|commit| *commit < at);
        let found = before().find(|commit| !self.commits[*commit].merge).or_else(|| before().next())?;
        let files = makers.iter().filter(move |(commit, _)| *commit == found);
        Some((found, files.map(|(commit, file)| &self.commits[*commit].files[*file])))
    }
}

impl Reading<'_> {
    /// The source files that a commit changed, for [`Lineage::new`].
    ///
    /// # Errors
    /// Where the commit cannot be read.
    pub fn versions(&self, id: &CommitId) -> Result<Versions, CaptureError> {
        let (odb, blobs) = (self.blobs.odb, &self.blobs);
        let tree = self.tree_of(odb, &id.hex()).ok_or_else(|| unreadable(id, "its tree is not here"))?;
        let parents: Vec<String> = {
            let object = odb.read(id.0).map_err(|error| unreadable(id, error.message()))?;
            super::commit::parents(object.data()).map(str::to_owned).collect()
        };
        let mut files = Vec::new();
        let old_trees: Vec<Option<Oid>> = if parents.is_empty() {
            vec![None]
        } else {
            // What is absent gives no files.
            parents.iter().filter_map(|parent| self.tree_of(odb, parent)).map(Some).collect()
        };
        for old in old_trees {
            let mut changes = tree_walk::changes(odb, old, Some(tree), &mut BTreeSet::new());
            changes.retain(|change| FileKind::classify(&change.path, &[]) == FileKind::Source);
            renames::detect(blobs, &mut changes);
            files.extend(changes.iter().map(version));
        }
        Ok(Versions { merge: parents.len() > 1, files })
    }

    /// The places in the lineage of the commits that wrote the lines which the commit at `at` removed.
    ///
    /// # Errors
    /// Where the object database cannot be opened; contents that cannot be read have no origin.
    pub fn origins(&self, lineage: &Lineage, at: usize) -> Result<BTreeSet<usize>, CaptureError> {
        let blobs = &self.blobs;
        let mut found = BTreeSet::new();
        let files = &lineage.commits[at].files;
        if lineage.commits[at].merge || files.len() > MAX_FIX_FILES {
            return Ok(found);
        }
        let mut work = Work::new();
        for file in files {
            let (Some(old), Some(new)) = (file.old, file.new) else { continue };
            let (Some(before), Some(after)) = (content(blobs, old), content(blobs, new)) else { continue };
            let text = LineDiff::new(&before, &after, &mut work).text();
            let lines: Vec<u32> = text
                .removed
                .iter()
                .filter(|(_, line)| does_something(line))
                .map(|(number, _)| number - 1)
                .collect();
            follow(blobs, lineage, (file.old_path, old, at), lines, &mut work, &mut found);
        }
        Ok(found)
    }
}

/// Follows lines (zero-based) of a content back to the commits that wrote them.
fn follow(
    blobs: &Blobs<'_>,
    lineage: &Lineage,
    from: (u64, Oid, usize),
    lines: Vec<u32>,
    work: &mut Work,
    found: &mut BTreeSet<usize>,
) {
    let mut waiting = vec![(from, lines)];
    for _ in 0..MAX_VERSIONS {
        let Some(((path, id, at), mut lines)) = waiting.pop() else { return };
        let Some((maker, versions)) = lineage.made(path, id, at) else { continue };
        for version in versions {
            // Each parent takes its lines; what none has the maker wrote.
            let Some(old) = version.old else { continue };
            let (Some(before), Some(after)) = (content(blobs, old), content(blobs, id)) else {
                lines.clear();
                break;
            };
            let diff = LineDiff::new(&before, &after, work);
            let mut older = Vec::new();
            lines.retain(|line| match taken_over(&diff.hunks, *line) {
                Some(number) => {
                    older.push(number);
                    false
                }
                None => true,
            });
            if !older.is_empty() {
                waiting.push(((version.old_path, old, maker), older));
            }
        }
        if !lines.is_empty() && !lineage.commits[maker].merge {
            found.insert(maker);
        }
    }
}

/// The number that a line had before; none where it is new.
fn taken_over(hunks: &[Hunk], line: u32) -> Option<u32> {
    let mut number = i64::from(line);
    for hunk in hunks {
        if hunk.after.contains(&line) {
            return None;
        }
        if hunk.after.start > line {
            break;
        }
        number += i64::from(hunk.before.end) - i64::from(hunk.before.start);
        number -= i64::from(hunk.after.end) - i64::from(hunk.after.start);
    }
    u32::try_from(number).ok()
}

fn content<'r>(blobs: &Blobs<'r>, id: Oid) -> Option<Blob<'r>> {
    blobs.read(id, Role::New, MAX_BYTES).ok().filter(|content| !is_binary(content))
}

fn version(change: &Change) -> Version {
    let file = |side: Option<Side>| side.filter(|side| side.is_file()).map(|side| side.id);
    let path = hash(&change.path);
    let old_path = change.old_path.as_deref().map_or(path, hash);
    Version { path, old_path, old: file(change.old), new: file(change.new) }
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn does_something(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let idle = ["//", "/*", "*", "#", "--", "import ", "package ", "using ", "from "];
    line.iter().any(u8::is_ascii_alphanumeric) && !idle.iter().any(|start| line.starts_with(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_where_they_were() {
        let hunks = [Hunk { before: 2..2, after: 2..4 }, Hunk { before: 10..13, after: 12..13 }];
        let before: Vec<Option<u32>> =
            [0, 1, 2, 3, 4, 11, 12, 13].map(|line| taken_over(&hunks, line)).into();
        assert_eq!(before, [Some(0), Some(1), None, None, Some(2), Some(9), None, Some(13)]);
    }

    #[test]
    fn a_pure_deletion_moves_what_follows() {
        let hunks = [Hunk { before: 3..5, after: 3..3 }];
        assert_eq!([2, 3, 4].map(|line| taken_over(&hunks, line)), [Some(2), Some(5), Some(6)]);
    }

    #[test]
    fn idle_lines_have_no_origin() {
        for line in ["", "  }", "});", "// old", " * doc", "import os"] {
            assert!(!does_something(line.as_bytes()), "{line}");
        }
        assert!(does_something(b"  dose = rate * 2;"));
    }
}
