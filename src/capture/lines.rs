//! Changed lines of one file.
//!
//! Equal beginnings and ends are cut off first, by bytes and then back to whole lines, so that the
//! differ sees only the middle: most changes touch a few lines of a long file. The middle goes to
//! `imara-diff`. A line keeps its `\r`; a last line without `\n` differs from one with it, as in Git.
//! Of several equal lines in a row the one shown as changed may be another than Git's: the counts and
//! the set of changed lines are the same, a line number can differ by the length of the repetition.
//! `differ` bounds the time.

use std::ops::Range;

use imara_diff::{Interner, Token};

use super::differ::{self, Work};
use crate::facts::{ChangedText, LineStart, SideText};

/// Bytes in which Git looks for a NUL to call a file binary.
const BINARY_HEAD: usize = 8000;

/// Whether Git would call this content binary.
pub(super) fn is_binary(content: &[u8]) -> bool {
    memchr::memchr(0, &content[..content.len().min(BINARY_HEAD)]).is_some()
}

/// Number of lines; a last line without line end counts.
pub(super) fn count(content: &[u8]) -> u32 {
    let ends = memchr::memchr_iter(b'\n', content).count();
    let open = usize::from(content.last().is_some_and(|&last| last != b'\n'));
    u32::try_from(ends + open).unwrap_or(u32::MAX)
}

/// A replaced range of lines: zero-based numbers in the old and in the new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hunk {
    pub(super) before: Range<u32>,
    pub(super) after: Range<u32>,
}

/// The lines of one version between the equal beginning and the equal end.
struct Middle<'a> {
    bytes: &'a [u8],
    /// Lines before it.
    first: u32,
    /// Where each line begins in `bytes`, and their end.
    starts: Vec<u32>,
}

impl<'a> Middle<'a> {
    fn new(bytes: &'a [u8], first: u32) -> Self {
        let mut starts = Vec::with_capacity(bytes.len() / 32 + 2);
        starts.push(0);
        // Contents are at most 4 MiB: the offsets fit.
        starts.extend(memchr::memchr_iter(b'\n', bytes).map(|at| u32::try_from(at + 1).unwrap_or(u32::MAX)));
        if bytes.last().is_some_and(|&last| last != b'\n') {
            starts.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        Self { bytes, first, starts }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).unwrap_or(u32::MAX)
    }

    fn all(&self) -> Range<u32> {
        self.first..self.first + self.len()
    }

    /// The bytes of the line with a zero-based number, with its line end if it has one.
    fn line(&self, number: u32) -> &'a [u8] {
        self.range(number..number + 1)
    }

    fn range(&self, lines: Range<u32>) -> &'a [u8] {
        let from = self.starts[(lines.start - self.first) as usize];
        let to = self.starts[(lines.end - self.first) as usize];
        &self.bytes[from as usize..to as usize]
    }

    fn append(&self, lines: Range<u32>, side: &mut SideText) {
        if lines.is_empty() {
            return;
        }
        let base = u32::try_from(side.text.len()).unwrap_or(u32::MAX);
        let from = self.starts[(lines.start - self.first) as usize];
        side.lines.extend(lines.clone().map(|number| LineStart {
            offset: base + self.starts[(number - self.first) as usize] - from,
            number: number + 1,
        }));
        side.text.extend_from_slice(self.range(lines));
        if side.text.last() != Some(&b'\n') {
            side.text.push(b'\n');
        }
    }

    fn intern(&self, interner: &mut Interner<&'a [u8]>) -> Vec<Token> {
        self.starts
            .windows(2)
            .map(|pair| interner.intern(&self.bytes[pair[0] as usize..pair[1] as usize]))
            .collect()
    }
}

/// What differs between two versions of a file.
pub(super) struct LineDiff<'a> {
    pub(super) hunks: Vec<Hunk>,
    old: Middle<'a>,
    new: Middle<'a>,
}

impl<'a> LineDiff<'a> {
    /// Compares two versions.
    pub(super) fn new(old: &'a [u8], new: &'a [u8], work: &mut Work) -> Self {
        let (head, tail) = equal_ends(old, new);
        let first = u32::try_from(memchr::memchr_iter(b'\n', &old[..head]).count()).unwrap_or(u32::MAX);
        let old = Middle::new(&old[head..old.len() - tail], first);
        let new = Middle::new(&new[head..new.len() - tail], first);
        let hunks = hunks(&old, &new, work);
        Self { hunks, old, new }
    }

    pub(super) fn insertions(&self) -> u32 {
        self.hunks.iter().map(|hunk| hunk.after.end - hunk.after.start).sum()
    }

    pub(super) fn deletions(&self) -> u32 {
        self.hunks.iter().map(|hunk| hunk.before.end - hunk.before.start).sum()
    }

    /// The changed lines of both sides.
    pub(super) fn text(&self) -> ChangedText {
        let mut text = ChangedText::default();
        for hunk in &self.hunks {
            self.old.append(hunk.before.clone(), &mut text.removed);
            self.new.append(hunk.after.clone(), &mut text.added);
        }
        text
    }

    /// Appends some of the new version's changed lines (zero-based numbers inside a hunk).
    pub(super) fn append_added(&self, lines: Range<u32>, side: &mut SideText) {
        self.new.append(lines, side);
    }

    /// A changed line of the old version (zero-based number inside a hunk), without its line end.
    pub(super) fn removed_line(&self, number: u32) -> &'a [u8] {
        let line = self.old.line(number);
        line.strip_suffix(b"\n").unwrap_or(line)
    }
}

/// All lines of a content as one side of a change, for files that are new or gone.
pub(super) fn whole(content: &[u8]) -> SideText {
    let middle = Middle::new(content, 0);
    let mut side = SideText {
        text: Vec::with_capacity(content.len() + 1),
        lines: Vec::with_capacity(middle.starts.len() - 1),
    };
    middle.append(middle.all(), &mut side);
    side
}

fn hunks(old: &Middle<'_>, new: &Middle<'_>, work: &mut Work) -> Vec<Hunk> {
    if old.bytes.is_empty() && new.bytes.is_empty() {
        return Vec::new();
    }
    if old.bytes.is_empty() || new.bytes.is_empty() || (old.len() == 1 && new.len() == 1) {
        return vec![Hunk { before: old.all(), after: new.all() }];
    }
    let mut interner = Interner::new((old.len() + new.len()) as usize);
    let (before, after) = (old.intern(&mut interner), new.intern(&mut interner));
    let mut found = differ::hunks(&before, &after, interner.num_tokens(), work);
    for hunk in &mut found {
        hunk.before = hunk.before.start + old.first..hunk.before.end + old.first;
        hunk.after = hunk.after.start + new.first..hunk.after.end + new.first;
    }
    found
}

/// How many bytes at the beginning and at the end are equal, in whole lines.
fn equal_ends(old: &[u8], new: &[u8]) -> (usize, usize) {
    let mut head = equal_head(old, new);
    head = memchr::memrchr(b'\n', &old[..head]).map_or(0, |at| at + 1);
    let (old, new) = (&old[head..], &new[head..]);
    let tail = equal_tail(old, new);
    // The tail must begin where a line begins in both.
    let begins = |content: &[u8]| tail == content.len() || content[content.len() - tail - 1] == b'\n';
    if begins(old) && begins(new) {
        return (head, tail);
    }
    let kept = &old[old.len() - tail..];
    (head, memchr::memchr(b'\n', kept).map_or(0, |at| tail - at - 1))
}

/// Compares in blocks whose length the compiler knows: it needs no call for them.
const BLOCK: usize = 32;

fn equal_head(old: &[u8], new: &[u8]) -> usize {
    let blocks = old.as_chunks::<BLOCK>().0.iter().zip(new.as_chunks::<BLOCK>().0);
    let at = blocks.take_while(|(old, new)| old == new).count() * BLOCK;
    at + old[at..].iter().zip(&new[at..]).take_while(|(old, new)| old == new).count()
}

fn equal_tail(old: &[u8], new: &[u8]) -> usize {
    let blocks = old.as_rchunks::<BLOCK>().1.iter().rev().zip(new.as_rchunks::<BLOCK>().1.iter().rev());
    let at = blocks.take_while(|(old, new)| old == new).count() * BLOCK;
    let (old, new) = (&old[..old.len() - at], &new[..new.len() - at]);
    at + old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Numbered = Vec<(u32, String)>;

    fn sides(old: &str, new: &str) -> (Numbered, Numbered) {
        let diff = LineDiff::new(old.as_bytes(), new.as_bytes(), &mut Work::new());
        let text = diff.text();
        let list = |side: &SideText| {
            side.iter()
                .map(|(number, line)| (number, String::from_utf8_lossy(line).into_owned()))
                .collect::<Vec<_>>()
        };
        let (removed, added) = (list(&text.removed), list(&text.added));
        assert_eq!(diff.deletions() as usize, removed.len());
        assert_eq!(diff.insertions() as usize, added.len());
        (removed, added)
    }

    fn line(number: u32, text: &str) -> (u32, String) {
        (number, text.to_owned())
    }

    #[test]
    fn counts_lines() {
        assert_eq!(count(b""), 0);
        assert_eq!(count(b"\n"), 1);
        assert_eq!(count(b"a"), 1);
        assert_eq!(count(b"a\nb"), 2);
        assert_eq!(count(b"a\nb\n"), 2);
    }

    #[test]
    fn changes_in_the_middle() {
        assert_eq!(sides("a\nb\nc\n", "a\nB\nc\n"), (vec![line(2, "b")], vec![line(2, "B")]));
        assert_eq!(sides("a\nc\n", "a\nb\nc\n"), (vec![], vec![line(2, "b")]));
        assert_eq!(sides("a\nb\nc\n", "a\nc\n"), (vec![line(2, "b")], vec![]));
        assert_eq!(
            sides("a\nb\nc\nd\ne\n", "a\nB\nc\nD\ne\n"),
            (vec![line(2, "b"), line(4, "d")], vec![line(2, "B"), line(4, "D")])
        );
    }

    #[test]
    fn a_shared_part_of_a_line_is_no_equal_line() {
        assert_eq!(sides("xab\n", "xcb\n"), (vec![line(1, "xab")], vec![line(1, "xcb")]));
        assert_eq!(sides("b\nz\n", "ab\nz\n"), (vec![line(1, "b")], vec![line(1, "ab")]));
        assert_eq!(sides("a\na\n", "a\n"), (vec![line(2, "a")], vec![]));
    }

    #[test]
    fn line_ends() {
        assert_eq!(sides("a\nb", "a\nb\n"), (vec![line(2, "b")], vec![line(2, "b")]));
        assert_eq!(sides("a\r\n", "a\n"), (vec![line(1, "a\r")], vec![line(1, "a")]));
        assert_eq!(sides("a", "a\nb"), (vec![line(1, "a")], vec![line(1, "a"), line(2, "b")]));
        assert_eq!(sides("", "x"), (vec![], vec![line(1, "x")]));
        assert_eq!(sides("x", ""), (vec![line(1, "x")], vec![]));
    }

    #[test]
    fn whole_files() {
        let side = whole(b"a\n\nb");
        assert_eq!(side.text, b"a\n\nb\n");
        let lines: Vec<_> = side.iter().collect();
        assert_eq!(lines, [(1, &b"a"[..]), (2, b""), (3, b"b")]);
        assert!(whole(b"").is_empty());
    }

    #[test]
    fn binary_by_a_nul_in_the_head() {
        assert!(is_binary(b"a\0b"));
        assert!(!is_binary(b"text"));
        let mut late = vec![b'a'; BINARY_HEAD];
        late.push(0);
        assert!(!is_binary(&late));
    }

    fn file() -> impl Strategy<Value = String> {
        ("[abc]{0,2}(\n[abc]{0,2}){0,40}", any::<bool>())
            .prop_map(|(text, end)| text + if end { "\n" } else { "" })
    }

    proptest! {
        /// Taking the removed lines away and putting the added ones in gives the new version.
        #[test]
        fn applying_the_hunks_gives_the_new_version(old in file(), new in file()) {
            let diff = LineDiff::new(old.as_bytes(), new.as_bytes(), &mut Work::new());
            let old_lines: Vec<&str> = old.split_inclusive('\n').collect();
            let new_lines: Vec<&str> = new.split_inclusive('\n').collect();
            let mut built: Vec<&str> = Vec::new();
            let mut at = 0;
            for hunk in &diff.hunks {
                built.extend(&old_lines[at..hunk.before.start as usize]);
                prop_assert_eq!(built.len(), hunk.after.start as usize);
                built.extend(&new_lines[hunk.after.start as usize..hunk.after.end as usize]);
                at = hunk.before.end as usize;
            }
            built.extend(&old_lines[at..]);
            prop_assert_eq!(built.concat(), new);
            prop_assert_eq!(count(old.as_bytes()) as usize, old_lines.len());
        }
    }
}
