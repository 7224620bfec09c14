//! Which lines were only moved: the other side of the commit has as many of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::lines::line_of;
use super::matcher::FileView;

/// How often each line (white space and a comment behind it aside) was added and removed in the whole commit.
///
/// A side is counted on the first question that needs it: most commits ask none. Most questions are for a line with a
/// word that is known, and then only lines with that word are counted, since others are not the same.
pub(super) struct Moves<'a> {
    views: &'a [FileView<'a>],
    known: RefCell<HashMap<Counted, Rc<Counts>>>,
}

/// Which lines are counted: those with a literal, else all; of the added side, else of the removed one.
type Counted = (Option<u16>, bool);

/// How often there is a line, by its fingerprint.
type Counts = HashMap<u64, u32, BuildHasherDefault<Ready>>;

impl<'a> Moves<'a> {
    pub(super) fn new(views: &'a [FileView<'a>]) -> Self {
        Self { views, known: RefCell::default() }
    }

    /// Whether one of the added (else removed) lines stands on the other side as well. `word` is the number of a literal
    /// in the line that is a word: white space would not take it apart.
    pub(super) fn moved(&self, line: &[u8], word: Option<u16>, added: bool) -> bool {
        let code = code_of(line);
        // The word may stand in the comment, without which the line is the same as one that has none.
        let word = word.filter(|_| code.len() == line.len());
        let line = fingerprint(code);
        let count = |added| self.counts(word, added).get(&line).copied().unwrap_or_default();
        let other = count(!added);
        other > 0 && other >= count(added)
    }

    fn counts(&self, word: Option<u16>, added: bool) -> Rc<Counts> {
        if let Some(counts) = self.known.borrow().get(&(word, added)) {
            return Rc::clone(counts);
        }
        let mut counts = Counts::default();
        let mut count = |line: &[u8]| *counts.entry(fingerprint(code_of(line))).or_default() += 1;
        for view in self.views {
            let (side, hits) = view.side(added);
            match word {
                Some(word) => {
                    hits.lines_of(word, side).into_iter().for_each(|index| count(line_of(side, index)))
                }
                None => side.iter().for_each(|(_, line)| count(line)),
            }
        }
        let counts = Rc::new(counts);
        self.known.borrow_mut().insert((word, added), Rc::clone(&counts));
        counts
    }
}

/// A hash over the bytes that are not white space, in their order. Lives no longer than the judgement. The bytes that
/// count are moved together without a branch, and hashed eight at a time.
fn fingerprint(code: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const WORD: usize = 8;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut solid = [0_u8; 64];
    let (mut hash, mut filled, mut all) = (0_u64, 0, 0);
    for part in code.chunks(solid.len() - WORD) {
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
struct Ready(u64);

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

#[cfg(test)]
mod tests {
    use super::super::lines::Hits;
    use super::*;
    use crate::facts::{ChangedFile, ChangedText, FileKind, RepoPath, SideText, Status};
    use crate::literals::Literals;

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
    fn a_comment_behind_code_is_no_part_of_the_line() {
        assert_eq!(fingerprint(code_of(b"  a = 1; // one")), fingerprint(code_of(b"a=1;  // two")));
        assert_eq!(fingerprint(code_of(b"a = 1; // one")), fingerprint(code_of(b"a = 1;")));
        assert_ne!(fingerprint(code_of(b"// one")), fingerprint(code_of(b"// two")));
        assert_ne!(fingerprint(code_of(b"x = http://a")), fingerprint(code_of(b"x = http://b")));
    }

    proptest::proptest! {
        /// As a comparison of the lines themselves would say, white space and comments aside; asked of the lines with a
        /// word or of all.
        #[test]
        fn moved_lines_are_those_that_the_other_side_has(
            added in proptest::collection::vec("(key|a|b| ){0,9}( // (key|a))?", 0..12),
            removed in proptest::collection::vec("(key|a|b| ){0,9}( // (key|a))?", 0..12),
        ) {
            let literals = Literals::new(vec!["key".into()]);
            let code = |line: &str| match line.split_once(" // ") {
                Some((code, _)) if !code.trim().is_empty() => code.replace(' ', ""),
                _ => line.replace(' ', ""),
            };
            let side = |lines: &[String]| {
                let mut side = SideText::default();
                lines.iter().zip(1..).for_each(|(line, number)| side.push(number, line.as_bytes()));
                side
            };
            let file = changed(side(&added), side(&removed));
            let hits = |side| Hits::find(&literals, side);
            let (of_added, of_removed) = (hits(&file.text.added), hits(&file.text.removed));
            let views = [FileView { file: &file, added: of_added, removed: of_removed, literals: &literals }];
            let moves = Moves::new(&views);
            for (own, other, is_added) in [(&added, &removed, true), (&removed, &added, false)] {
                for line in own {
                    let count = |lines: &[String]| lines.iter().filter(|other| code(other) == code(line)).count();
                    let expected = count(other) > 0 && count(other) >= count(own);
                    proptest::prop_assert_eq!(moves.moved(line.as_bytes(), None, is_added), expected);
                    if line.contains("key") {
                        proptest::prop_assert_eq!(moves.moved(line.as_bytes(), Some(0), is_added), expected);
                    }
                }
            }
        }
    }
}
