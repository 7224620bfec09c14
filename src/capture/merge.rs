//! What a merge itself changed: what differs from *every* parent, as `git show --cc` shows it.
//!
//! A merge repeats, against its first parent, everything that the merged branch did; those commits have
//! records of their own. Judged is only what nobody had before: resolved conflicts and edits made in the
//! merge. A file counts if it differs from each parent; of its lines, the added ones which each comparison
//! adds, and the removed ones which each comparison removes with the same text at the same place. A file
//! of which no such line is left was merged cleanly and is dropped.

use std::collections::BTreeSet;
use std::ops::Range;

use git2::Oid;

use super::blobs::{Blobs, Role};
use super::content::{self, Content, Reader};
use super::differ::Work;
use super::lines::{self, Hunk, LineDiff};
use super::renames;
use super::tree_walk::{self, Change, Merged};
use crate::facts::{ChangedFile, ChangedText, Incomplete, SideText};

/// The files of a merge that differ from every parent, with the lines that do.
pub(super) fn files(
    blobs: &Blobs<'_>,
    tree: Oid,
    parents: &[Oid],
    incomplete: &mut BTreeSet<Incomplete>,
) -> Vec<ChangedFile> {
    let mut merged = tree_walk::merged(blobs.odb, tree, parents, incomplete);
    let old_paths = follow_renames(blobs, tree, parents, &mut merged, incomplete);
    let mut reader = Reader::new(blobs, incomplete);
    merged
        .iter()
        .zip(old_paths)
        .filter(|(merged, _)| differs_from_all(merged))
        .filter_map(|(merged, old_path)| file(&mut reader, merged, old_path))
        .collect()
}

/// Renaming makes a file equal to none of the parents by its path: find where it was in those that lack it.
/// Gives the old path in the first parent, where there is one.
fn follow_renames(
    blobs: &Blobs<'_>,
    tree: Oid,
    parents: &[Oid],
    merged: &mut [Merged],
    incomplete: &mut BTreeSet<Incomplete>,
) -> Vec<Option<Vec<u8>>> {
    let mut first_paths = vec![None; merged.len()];
    for (index, &parent) in parents.iter().enumerate() {
        let lacking = |merged: &Merged| merged.new.is_some() && merged.parents[index].is_none();
        if !merged.iter().any(lacking) {
            continue;
        }
        let mut changes = tree_walk::changes(blobs.odb, Some(parent), Some(tree), incomplete);
        renames::detect(blobs, &mut changes);
        for (merged, first_path) in merged.iter_mut().zip(&mut first_paths) {
            if lacking(merged)
                && let Ok(at) = changes.binary_search_by(|change| change.path.cmp(&merged.path))
                && changes[at].old_path.is_some()
            {
                merged.parents[index] = changes[at].old;
                if index == 0 {
                    first_path.clone_from(&changes[at].old_path);
                }
            }
        }
    }
    first_paths
}

fn differs_from_all(merged: &Merged) -> bool {
    merged.parents.iter().all(|parent| *parent != merged.new)
}

fn file(reader: &mut Reader<'_, '_>, merged: &Merged, old_path: Option<Vec<u8>>) -> Option<ChangedFile> {
    let change = Change {
        path: merged.path.clone(),
        old_path,
        old: merged.parents.first().copied().flatten(),
        new: merged.new,
    };
    let mut file = content::listed(&change);
    if !reader.next_file() {
        file.kind = content::kind(&change, &[]);
        return Some(file);
    }
    let new = merged.new.map(|side| reader.read(side, Role::New));
    let parents: Vec<Option<Content>> =
        merged.parents.iter().map(|side| side.map(|side| reader.read(side, Role::Old))).collect();

    let shown = new.as_ref().or(parents.first().and_then(Option::as_ref));
    file.size = shown.and_then(Content::size);
    file.kind = content::kind(&change, shown.and_then(Content::bytes).unwrap_or_default());
    let new_bytes = bytes(new.as_ref());
    let parent_bytes: Vec<Option<&[u8]>> = parents.iter().map(|parent| bytes(parent.as_ref())).collect();
    file.binary = parent_bytes.iter().copied().chain([new_bytes]).flatten().any(lines::is_binary);
    if file.binary {
        return Some(file);
    }
    file.old_lines = parent_bytes.first().copied().flatten().map_or(0, lines::count);
    let (Some(new_bytes), Some(parent_bytes)) =
        (new_bytes, parent_bytes.into_iter().collect::<Option<Vec<_>>>())
    else {
        return Some(file);
    };
    file.text = common(new_bytes, &parent_bytes, merged, &mut reader.work);
    let lines = |side: &SideText| u32::try_from(side.lines.len()).unwrap_or(u32::MAX);
    (file.insertions, file.deletions) = (lines(&file.text.added), lines(&file.text.removed));

    let mode_is_new = merged
        .new
        .is_none_or(|new| merged.parents.iter().all(|parent| parent.is_none_or(|old| old.mode != new.mode)));
    (file.insertions + file.deletions > 0 || mode_is_new).then_some(file)
}

/// The content, the empty one where there is no file, nothing where it could not be read.
fn bytes<'c>(content: Option<&'c Content<'_>>) -> Option<&'c [u8]> {
    content.map_or(Some(&[]), Content::bytes)
}

/// The lines that every comparison adds, and those that every comparison removes.
fn common(new: &[u8], parents: &[&[u8]], merged: &Merged, work: &mut Work) -> ChangedText {
    let diffs: Vec<LineDiff<'_>> = parents.iter().map(|old| LineDiff::new(old, new, work)).collect();
    let mut text = ChangedText::default();
    let Some((first, others)) = diffs.split_first() else { return text };

    let mut added: Vec<Range<u32>> = first.hunks.iter().map(|hunk| hunk.after.clone()).collect();
    for other in others {
        added = intersect(&added, &other.hunks);
    }
    for range in added {
        first.append_added(range, &mut text.added);
    }
    // A parent without the file has nothing that could be removed, and does not ask for it either.
    let others: Vec<&LineDiff<'_>> = others
        .iter()
        .zip(&merged.parents[1..])
        .filter(|(_, side)| side.is_some())
        .map(|(diff, _)| diff)
        .collect();
    for hunk in &first.hunks {
        for number in hunk.before.clone() {
            let line = first.removed_line(number);
            if others.iter().all(|other| removes(other, hunk, line)) {
                text.removed.push(number + 1, line);
            }
        }
    }
    text
}

/// Whether a comparison removes a line where `hunk` does, seen from the result.
fn removes(diff: &LineDiff<'_>, hunk: &Hunk, line: &[u8]) -> bool {
    let from = diff.hunks.partition_point(|other| other.after.end < hunk.after.start);
    diff.hunks[from..]
        .iter()
        .take_while(|other| other.after.start <= hunk.after.end)
        .any(|other| other.before.clone().any(|number| diff.removed_line(number) == line))
}

/// What two ascending lists of ranges have in common.
fn intersect(ranges: &[Range<u32>], hunks: &[Hunk]) -> Vec<Range<u32>> {
    let mut common = Vec::new();
    for range in ranges {
        let from = hunks.partition_point(|hunk| hunk.after.end <= range.start);
        for hunk in hunks[from..].iter().take_while(|hunk| hunk.after.start < range.end) {
            let both = range.start.max(hunk.after.start)..range.end.min(hunk.after.end);
            if !both.is_empty() {
                common.push(both);
            }
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::super::tree_walk::Side;
    use super::*;

    fn lines(new: &str, parents: &[&str]) -> (Vec<String>, Vec<String>) {
        let side = Some(Side { mode: 0o100_644, id: Oid::ZERO_SHA1 });
        let merged = Merged { path: Vec::new(), new: side, parents: vec![side; parents.len()] };
        let parents: Vec<&[u8]> = parents.iter().map(|parent| parent.as_bytes()).collect();
        let text = common(new.as_bytes(), &parents, &merged, &mut Work::new());
        let list = |side: &SideText| {
            side.iter().map(|(_, line)| String::from_utf8_lossy(line).into_owned()).collect()
        };
        (list(&text.removed), list(&text.added))
    }

    #[test]
    fn a_clean_merge_has_nothing_of_its_own() {
        let base = "a\nb\nc\nd\ne\nf\ng\n";
        let (ours, theirs) = (base.replace('b', "B"), base.replace('f', "F"));
        let result = base.replace('b', "B").replace('f', "F");
        assert_eq!(lines(&result, &[&ours, &theirs]), (vec![], vec![]));
    }

    #[test]
    fn equal_lines_removed_by_either_side_elsewhere_are_not_the_merges() {
        let base = "x\na\nb\nc\nd\nx\ne\n";
        let (ours, theirs, result) = ("a\nb\nc\nd\nx\ne\n", "x\na\nb\nc\nd\ne\n", "a\nb\nc\nd\ne\n");
        assert_ne!(base, result);
        assert_eq!(lines(result, &[ours, theirs]), (vec![], vec![]));
    }

    #[test]
    fn an_edit_of_the_merge_is_found_on_both_sides() {
        let (removed, added) = lines("a\nB\nevil\nd\n", &["a\nB\nc\nd\n", "a\nb\nc\nd\n"]);
        assert_eq!(added, ["evil"]);
        assert_eq!(removed, ["c"]);
    }
}
