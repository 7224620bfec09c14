//! The lines of a commit as the rules see them: which are comment, which hold a literal.

use super::automaton::AsciiSet;
use super::embedded::Beside;
use crate::facts::{LineStart, SideText};
use crate::literals::Literals;

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
    pub(super) fn lines(&self, wanted: &[Keyword], side: &SideText) -> Vec<usize> {
        let fitting =
            wanted.iter().flat_map(|word| self.of(word.number).filter(|(_, at)| word.fits(&side.text, *at)));
        ascending(fitting, side)
    }

    /// Indices of the lines of the side with a literal, ascending.
    pub(super) fn lines_of(&self, number: u16, side: &SideText) -> Vec<usize> {
        ascending(self.of(number), side)
    }

    /// The first of `any` that is a word and stands in a line.
    pub(super) fn word_in(&self, any: &[Keyword], side: &SideText, index: usize) -> Option<u16> {
        let start = side.lines.get(index)?.offset;
        let end = side.lines.get(index + 1).map_or(u32::MAX, |next| next.offset);
        let stands = |word: &&Keyword| {
            let at = self.0.partition_point(|hit| *hit < (word.number, start));
            self.0.get(at).is_some_and(|(number, offset)| *number == word.number && *offset < end)
        };
        any.iter().filter(|word| word.whole).find(stands).map(|word| word.number)
    }

    /// As [`Hits::lines`], for literals that stand as words of their own (`camelCase` and `_` divide words).
    pub(super) fn word_lines(&self, wanted: &[u16], literals: &Literals, side: &SideText) -> Vec<usize> {
        let all = wanted.iter().flat_map(|number| self.of(*number));
        let words = all.filter(|(number, at)| is_word(&side.text, *at, literals.len_of(*number)));
        ascending(words, side)
    }

    fn of(&self, wanted: u16) -> impl Iterator<Item = (u16, usize)> {
        let from = self.0.partition_point(|hit| hit.0 < wanted);
        let hits = self.0[from..].iter().take_while(move |hit| hit.0 == wanted);
        hits.map(|(number, offset)| (*number, *offset as usize))
    }
}

/// A literal that is looked for, and what stands beside it where it counts.
pub(super) struct Keyword {
    pub(super) number: u16,
    /// In bytes.
    pub(super) len: usize,
    /// Whether it is a word, or a part of one: without a sign or white space.
    pub(super) whole: bool,
    pub(super) beside: Beside,
}

/// Where nothing is known of a keyword's neighbours.
pub(super) const ANYTHING: Beside = &[(!0, !0)];

impl Keyword {
    /// Whether it has one pair of its neighbours at a place. Before and behind a text are the ends of lines, as between
    /// them; bytes beyond ASCII may stand anywhere.
    pub(super) fn fits(&self, text: &[u8], at: usize) -> bool {
        let allows = |bytes: AsciiSet, byte: Option<&u8>| {
            let byte = byte.copied().unwrap_or(b'\n');
            !byte.is_ascii() || bytes >> byte & 1 == 1
        };
        let (before, behind) = (at.checked_sub(1).and_then(|at| text.get(at)), text.get(at + self.len));
        self.beside.iter().any(|beside| allows(beside.0, before) && allows(beside.1, behind))
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
            let word = |number| Keyword { number, len: all[usize::from(number)].len(), whole: true, beside: ANYTHING };
            let wanted: Vec<Keyword> = wanted.into_iter().map(word).collect();
            proptest::prop_assert_eq!(Hits::find(&literals, &side).lines(&wanted, &side), expected);
        }
    }
}
