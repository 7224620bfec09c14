//! The lines of a commit as the rules see them: which were only moved, which are comment, which hold a
//! literal.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

use crate::facts::{ChangedFile, LineStart, SideText};
use crate::literals::Literals;

/// How often each line (white space aside) was added and removed in the whole commit.
///
/// A line counts as moved when the other side has at least as many copies of it. A side is counted on the
/// first question that needs it: most commits ask none, and of those that ask most need one side only.
pub(super) struct Moves<'a> {
    files: &'a [ChangedFile],
    added: Copies,
    removed: Copies,
}

/// The lines of one side of a commit.
#[derive(Default)]
struct Copies {
    lines: OnceLock<Lines>,
    counts: OnceLock<Counts>,
}

type Counts = HashMap<u64, u32, BuildHasherDefault<Ready>>;

impl<'a> Moves<'a> {
    pub(super) fn new(files: &'a [ChangedFile]) -> Self {
        Self { files, added: Copies::default(), removed: Copies::default() }
    }

    /// Whether a line of the added (else removed) side stands on the other side as well.
    pub(super) fn moved(&self, line: &[u8], added: bool) -> bool {
        let line = fingerprint(line);
        if !self.lines(!added).may_hold(line) {
            return false;
        }
        let other = self.count(line, !added);
        other > 0 && other >= self.count(line, added)
    }

    fn count(&self, line: u64, added: bool) -> u32 {
        let counts = self.side(added).counts.get_or_init(|| {
            let lines = &self.lines(added).hashes;
            let mut counts = Counts::with_capacity_and_hasher(lines.len(), BuildHasherDefault::default());
            lines.iter().for_each(|line| *counts.entry(*line).or_default() += 1);
            counts
        });
        counts.get(&line).copied().unwrap_or_default()
    }

    fn side(&self, added: bool) -> &Copies {
        if added { &self.added } else { &self.removed }
    }

    fn lines(&self, added: bool) -> &Lines {
        self.side(added).lines.get_or_init(|| {
            let side = |file: &'a ChangedFile| if added { &file.text.added } else { &file.text.removed };
            let mut lines = Lines::new(self.files.iter().map(|file| side(file).lines.len()).sum());
            for (_, line) in self.files.iter().flat_map(|file| side(file).iter()) {
                lines.push(fingerprint(line));
            }
            lines
        })
    }
}

/// Lines as their hashes. Most questions are for one that is not there, which a bit tells without counting all.
struct Lines {
    hashes: Vec<u64>,
    bits: Vec<u64>,
}

impl Lines {
    fn new(most: usize) -> Self {
        Self { hashes: Vec::with_capacity(most), bits: vec![0; most.next_power_of_two()] }
    }

    fn push(&mut self, line: u64) {
        self.hashes.push(line);
        let (word, bit) = self.place(line);
        self.bits[word] |= bit;
    }

    fn may_hold(&self, line: u64) -> bool {
        let (word, bit) = self.place(line);
        self.bits[word] & bit != 0
    }

    fn place(&self, line: u64) -> (usize, u64) {
        #[expect(clippy::cast_possible_truncation, reason = "its lower bits are meant")]
        let word = line as usize & (self.bits.len() - 1);
        (word, 1 << (line >> 58))
    }
}

/// A hash over the bytes that are not white space, up to a comment at the end of the line. Lives no longer
/// than the judgement. A history hashes all its lines: the bytes that count are moved together without a branch, and
/// hashed eight at a time.
fn fingerprint(line: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const WORD: usize = 8;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut solid = [0_u8; 64];
    let (mut hash, mut filled, mut all) = (0_u64, 0, 0);
    for part in code_of(line).chunks(solid.len() - WORD) {
        for byte in part {
            solid[filled] = *byte;
            filled += usize::from(!WHITE[usize::from(*byte)]);
        }
        let (words, rest) = solid[..filled].as_chunks::<WORD>();
        hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let rest = rest.len();
        all += filled - rest;
        solid.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
    solid[filled..WORD].fill(0);
    let last = u64::from_le_bytes(std::array::from_fn(|at| solid[at]));
    hash = mix(mix(hash, last), (all + filled) as u64);
    (hash ^ hash >> 32).wrapping_mul(FACTOR)
}

static WHITE: [bool; 256] = {
    let mut white = [false; 256];
    let mut byte = 0_u8;
    while byte <= b' ' {
        white[byte as usize] = byte.is_ascii_whitespace();
        byte += 1;
    }
    white
};

/// A line up to a comment that stands behind something else.
fn code_of(line: &[u8]) -> &[u8] {
    let comment = memchr::memchr_iter(b'/', line).find(|at| {
        line.get(at + 1) == Some(&b'/')
            && at.checked_sub(1).is_some_and(|before| line[before].is_ascii_whitespace())
            && !line[..*at].trim_ascii().is_empty()
    });
    &line[..comment.unwrap_or(line.len())]
}

/// Keys are hashes already.
#[derive(Default)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Whether a line is wholly comment, by how it begins in the languages that matter here.
pub(super) fn is_comment(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    match line {
        [] => true,
        [b'#', rest @ ..] => {
            // C's directives and Rust's attributes are code.
            let directive = [
                &b"include"[..],
                b"define",
                b"if",
                b"else",
                b"elif",
                b"endif",
                b"undef",
                b"pragma",
                b"[",
                b"![",
            ];
            !directive.iter().any(|word| rest.trim_ascii_start().starts_with(word))
        }
        [b'/', b'/' | b'*', ..]
        | [b'*', b'/', ..]
        | [b'*']
        | [b'*', b' ' | b'*', ..]
        | [b'-', b'-', b' ', ..] => true,
        _ => line.starts_with(b"<!--") || line.starts_with(b"{{!") || line.starts_with(b"{#"),
    }
}

/// The line at an index, without its line end; empty beyond the last.
pub(super) fn line_of(side: &SideText, index: usize) -> &[u8] {
    let Some(start) = side.lines.get(index) else { return &[] };
    let end = side.lines.get(index + 1).map_or(side.text.len(), |next| next.offset as usize);
    side.text.get(start.offset as usize..end.saturating_sub(1)).unwrap_or_default()
}

/// The index of the line that holds an offset.
pub(super) fn index_at(lines: &[LineStart], offset: usize) -> usize {
    lines.partition_point(|line| line.offset as usize <= offset).saturating_sub(1)
}

/// Indices of the lines at most `distance` line numbers from one of `words` (ascending).
pub(super) fn lines_near(side: &SideText, words: &[usize], distance: u32) -> Vec<usize> {
    let mut near = Vec::new();
    for word in words {
        let Some(number) = side.lines.get(*word).map(|line| line.number) else { continue };
        let from = side.lines.partition_point(|line| line.number < number.saturating_sub(distance));
        let to = side.lines.partition_point(|line| line.number <= number.saturating_add(distance));
        let from = from.max(near.last().map_or(0, |last| last + 1));
        near.extend(from..to);
    }
    near
}

pub(super) fn is_near(side: &SideText, words: &[usize], index: usize, distance: u32) -> bool {
    let number = |index: usize| side.lines.get(index).map_or(0, |line| line.number);
    let after = words.partition_point(|word| *word < index);
    let behind = words.get(after).is_some_and(|word| number(*word) - number(index) <= distance);
    let before = after.checked_sub(1).and_then(|at| words.get(at));
    behind || before.is_some_and(|word| number(index) - number(*word) <= distance)
}

/// Where the literals occur on one side of a file: number of the literal and offset of the occurrence, sorted.
pub(super) struct Hits(Vec<(u16, u32)>);

/// Fewer hits than this are sorted one by one.
const FEW: usize = 64;

impl Hits {
    /// Looks for all literals at once.
    pub(super) fn find(literals: &Literals, side: &SideText) -> Self {
        let mut hits = Vec::new();
        literals.search(&side.text, |number, offset| {
            if let Ok(offset) = u32::try_from(offset) {
                hits.push((number, offset));
            }
        });
        if hits.len() < FEW {
            // Stable: those of one literal come in the order of the text.
            hits.sort_by_key(|(number, _)| *number);
            return Self(hits);
        }
        let mut places = vec![0_usize; literals.len() + 1];
        for (number, _) in &hits {
            places[usize::from(*number) + 1] += 1;
        }
        for number in 1..places.len() {
            places[number] += places[number - 1];
        }
        let mut sorted = vec![(0, 0); hits.len()];
        for hit in hits {
            let place = &mut places[usize::from(hit.0)];
            sorted[*place] = hit;
            *place += 1;
        }
        Self(sorted)
    }

    /// The literals that occur.
    pub(super) fn literals(&self) -> impl Iterator<Item = u16> {
        self.0.chunk_by(|one, other| one.0 == other.0).filter_map(|hits| Some(hits.first()?.0))
    }

    /// Indices of the lines of the side with one of `wanted`, ascending, each once.
    pub(super) fn lines(&self, wanted: &[u16], side: &SideText) -> Vec<usize> {
        ascending(self.of(wanted), side)
    }

    /// As [`Hits::lines`], for literals that stand as words of their own (`camelCase` and `_` divide words).
    pub(super) fn word_lines(&self, wanted: &[u16], literals: &Literals, side: &SideText) -> Vec<usize> {
        let words = self.of(wanted).filter(|(number, at)| is_word(&side.text, *at, literals.len_of(*number)));
        ascending(words, side)
    }

    fn of(&self, wanted: &[u16]) -> impl Iterator<Item = (u16, usize)> {
        wanted.iter().flat_map(|number| {
            let from = self.0.partition_point(|hit| hit.0 < *number);
            let hits = self.0[from..].iter().take_while(move |hit| hit.0 == *number);
            hits.map(|(number, offset)| (*number, *offset as usize))
        })
    }
}

/// The lines of hits, those of each literal in the order of the text.
fn ascending(hits: impl Iterator<Item = (u16, usize)>, side: &SideText) -> Vec<usize> {
    let mut lines: Vec<usize> = Vec::new();
    let (mut last, mut end, mut literal) = (0, 0, None);
    for (number, offset) in hits {
        if literal != Some(number) {
            (last, end, literal) = (0, 0, Some(number));
        }
        // Most hits are in the line of the one before, or in one of the next.
        if offset >= end {
            last += index_behind(&side.lines[last..], offset);
            end = side.lines.get(last + 1).map_or(usize::MAX, |next| next.offset as usize);
            lines.push(last);
        }
    }
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// As [`index_at`], in less time where the line is one of the first.
fn index_behind(lines: &[LineStart], offset: usize) -> usize {
    let mut reach = 1;
    while lines.get(reach).is_some_and(|line| line.offset as usize <= offset) {
        reach *= 2;
    }
    index_at(&lines[..reach.min(lines.len())], offset)
}

/// Whether the bytes from `at` are a word: no letter or digit goes on before or behind it.
fn is_word(text: &[u8], at: usize, len: usize) -> bool {
    let first = text.get(at).copied().unwrap_or(b' ');
    let before = at.checked_sub(1).and_then(|before| text.get(before)).copied().unwrap_or(b' ');
    let last = text.get(at + len - 1).copied().unwrap_or(b' ');
    let behind = text.get(at + len).copied().unwrap_or(b' ');
    let begins =
        !before.is_ascii_alphanumeric() || (before.is_ascii_lowercase() && first.is_ascii_uppercase());
    let ends = !behind.is_ascii_alphanumeric()
        || (last.is_ascii_lowercase() && behind.is_ascii_uppercase())
        || (behind == b's' && !text.get(at + len + 1).is_some_and(u8::is_ascii_alphanumeric));
    begins && ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ChangedText, FileKind, RepoPath, Status};

    fn changed(added: SideText, removed: SideText) -> ChangedFile {
        ChangedFile {
            path: RepoPath::new("a"),
            old_path: None,
            status: Status::Modified,
            old_mode: 0o100_644,
            new_mode: 0o100_644,
            insertions: 0,
            deletions: 0,
            old_lines: 0,
            size: None,
            binary: false,
            kind: FileKind::Source,
            text: ChangedText { added, removed },
            manifest: None,
        }
    }

    #[test]
    fn comments_are_told_from_code() {
        for line in ["// audit", "  # note", " * text", "*/", "", "-- sql", "<!-- x -->", "/* a"] {
            assert!(is_comment(line.as_bytes()), "{line}");
        }
        for line in ["#include <x>", "#[test]", "*pointer = 1;", "a // b", "--flag", "x = 1 # y"] {
            assert!(!is_comment(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_comment_behind_code_is_no_part_of_the_line() {
        assert_eq!(fingerprint(b"  a = 1; // one"), fingerprint(b"a=1;  // two"));
        assert_eq!(fingerprint(b"a = 1; // one"), fingerprint(b"a = 1;"));
        assert_ne!(fingerprint(b"// one"), fingerprint(b"// two"));
        assert_ne!(fingerprint(b"x = http://a"), fingerprint(b"x = http://b"));
    }

    #[test]
    fn words_end_at_case_and_underscore() {
        for (text, word) in [
            ("patient_ssn:", true),
            ("patientSsn=", true),
            ("classname", false),
            ("SSN", true),
            ("ssns,", true),
        ] {
            let at = text.to_ascii_lowercase().find("ssn").unwrap_or(0);
            assert_eq!(
                is_word(text.as_bytes(), at, 3) && text.to_ascii_lowercase().contains("ssn"),
                word,
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn the_lines_of_hits_are_those_that_hold_them(text in "([ab]{0,6}\n){0,40}", wanted in 0..8_u8) {
            let all = ["aaa", "abab", "bbb"];
            let literals = Literals::new(all.map(std::borrow::Cow::Borrowed).to_vec());
            let mut side = SideText::default();
            for (line, number) in text.lines().zip(1..) {
                side.push(number, line.as_bytes());
            }
            let wanted: Vec<u16> = (0..3).filter(|number| wanted >> number & 1 == 1).collect();
            let holds = |line: &str| wanted.iter().any(|number| line.contains(all[usize::from(*number)]));
            let expected: Vec<usize> = (0..).zip(text.lines()).filter(|(_, line)| holds(line)).map(|(at, _)| at).collect();
            proptest::prop_assert_eq!(Hits::find(&literals, &side).lines(&wanted, &side), expected);
        }

        /// As a comparison of the lines themselves would say, white space aside.
        #[test]
        fn moved_lines_are_those_that_the_other_side_has(
            added in proptest::collection::vec("[ab ]{0,70}", 0..12),
            removed in proptest::collection::vec("[ab ]{0,70}", 0..12),
        ) {
            let solid = |line: &String| line.replace(' ', "");
            let side = |lines: &[String]| {
                let mut side = SideText::default();
                lines.iter().zip(1..).for_each(|(line, number)| side.push(number, line.as_bytes()));
                side
            };
            let files = [changed(side(&added), side(&removed))];
            let moves = Moves::new(&files);
            for line in added.iter().chain(&removed) {
                let count = |lines: &[String]| lines.iter().filter(|other| solid(other) == solid(line)).count();
                let (added, removed) = (count(&added), count(&removed));
                proptest::prop_assert_eq!(moves.moved(line.as_bytes(), true), removed > 0 && removed >= added);
                proptest::prop_assert_eq!(moves.moved(line.as_bytes(), false), added > 0 && added >= removed);
            }
        }
    }
}
