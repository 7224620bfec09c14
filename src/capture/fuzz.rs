//! What the fuzzer holds of this room's parsers.

use super::differ::Work;
use super::lines::{self, LineDiff};
use super::{commit, reflog};
use crate::facts::SideText;

/// Compares two contents: what is counted as changed must be all that differs, and each changed line must stand in its
/// version under its number.
pub(crate) fn diff(old: &[u8], new: &[u8]) {
    let diff = LineDiff::new(old, new, &mut Work::new());
    let kept = |count: u32, changed: u32| count.checked_sub(changed);
    let (of_old, of_new) =
        (kept(lines::count(old), diff.deletions()), kept(lines::count(new), diff.insertions()));
    assert!(of_old.is_some() && of_old == of_new, "what is left of both versions differs in length");
    let text = diff.text();
    hold(&text.removed, old);
    hold(&text.added, new);
    let unchanged = |content: &[u8], side: &SideText| -> Vec<Vec<u8>> {
        let changed: std::collections::HashSet<u32> = side.iter().map(|(number, _)| number).collect();
        let numbered = split(content).into_iter().zip(1_u32..);
        numbered.filter(|(_, number)| !changed.contains(number)).map(|(line, _)| line.to_vec()).collect()
    };
    assert_eq!(unchanged(old, &text.removed), unchanged(new, &text.added));
}

/// The lines with their line ends.
fn split(content: &[u8]) -> Vec<&[u8]> {
    content.split_inclusive(|byte| *byte == b'\n').collect()
}

fn hold(side: &SideText, content: &[u8]) {
    let lines = split(content);
    for (number, line) in side.iter() {
        let there = lines[number as usize - 1];
        assert_eq!(there.strip_suffix(b"\n").unwrap_or(there), line);
        assert!(side.lines.iter().any(|start| side.line_at(start.offset as usize) == Some(number)));
    }
}

/// Takes a commit object apart: the short ways must find what the long one finds.
pub(crate) fn commit(raw: &[u8]) {
    let whole = commit::parse(raw);
    assert_eq!(whole.commit_time, commit::commit_time(raw));
    assert!(commit::parents(raw).count() <= whole.parents.len());
}

/// Reads a reflog: what is read in two parts is what is read at once.
pub(crate) fn reflog(text: &[u8]) {
    reflog::halves_agree(text);
}
