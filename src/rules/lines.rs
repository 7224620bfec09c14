//! The lines of a commit as the rules see them: which were only moved, which are comment, which hold a
//! literal.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

use crate::facts::{ChangedFile, SideText};
use crate::literals::Literals;

/// How often each line (white space aside) was added and removed in the whole commit.
///
/// A line counts as moved when the other side has at least as many copies of it. A side is counted on the
/// first question that needs it: most commits ask none, and of those that ask most need one side only.
pub(super) struct Moves<'a> {
    files: &'a [ChangedFile],
    added: OnceLock<Counts>,
    removed: OnceLock<Counts>,
}

type Counts = HashMap<u64, u32, BuildHasherDefault<Ready>>;

impl<'a> Moves<'a> {
    pub(super) fn new(files: &'a [ChangedFile]) -> Self {
        Self { files, added: OnceLock::new(), removed: OnceLock::new() }
    }

    /// Whether a line of the added (else removed) side stands on the other side as well.
    pub(super) fn moved(&self, line: &[u8], added: bool) -> bool {
        let line = fingerprint(line);
        let other = self.count(line, !added);
        other > 0 && other >= self.count(line, added)
    }

    fn count(&self, line: u64, added: bool) -> u32 {
        let side = if added { &self.added } else { &self.removed };
        let counts = side.get_or_init(|| {
            let mut counts = Counts::default();
            for file in self.files {
                let text = if added { &file.text.added } else { &file.text.removed };
                for (_, line) in text.iter() {
                    *counts.entry(fingerprint(line)).or_default() += 1;
                }
            }
            counts
        });
        counts.get(&line).copied().unwrap_or_default()
    }
}

/// FNV-1a over the bytes that are not white space, up to a comment at the end of the line. Lives no longer
/// than the judgement.
fn fingerprint(line: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let (mut any, mut before) = (false, b'x');
    for (at, byte) in line.iter().enumerate() {
        if *byte == b'/' && any && before.is_ascii_whitespace() && line.get(at + 1) == Some(&b'/') {
            break;
        }
        before = *byte;
        if !byte.is_ascii_whitespace() {
            any = true;
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
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
pub(super) fn index_at(side: &SideText, offset: usize) -> usize {
    side.lines.partition_point(|line| line.offset as usize <= offset).saturating_sub(1)
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

/// Where the literals occur on one side of a file: number of the literal, index of the line and offset of the
/// occurrence, sorted.
pub(super) struct Hits(Vec<(u16, u32, u32)>);

impl Hits {
    /// Looks for all literals at once.
    pub(super) fn find(literals: &Literals, side: &SideText) -> Self {
        let mut hits = Vec::new();
        let mut line = 0_usize;
        literals.search(&side.text, |number, offset| {
            // Occurrences come in the order of the text but for a byte or two.
            while side.lines.get(line).is_some_and(|this| this.offset as usize > offset) {
                line -= 1;
            }
            while side.lines.get(line + 1).is_some_and(|next| next.offset as usize <= offset) {
                line += 1;
            }
            if let (Ok(line), Ok(offset)) = (u32::try_from(line), u32::try_from(offset)) {
                hits.push((number, line, offset));
            }
        });
        hits.sort_unstable();
        Self(hits)
    }

    /// The literals that occur.
    pub(super) fn literals(&self) -> impl Iterator<Item = u16> {
        self.0.chunk_by(|one, other| one.0 == other.0).filter_map(|hits| Some(hits.first()?.0))
    }

    /// Indices of the lines with one of `wanted`, ascending, each once.
    pub(super) fn lines(&self, wanted: &[u16]) -> Vec<usize> {
        ascending(self.of(wanted).map(|(_, line, _)| line as usize))
    }

    /// As [`Hits::lines`], for literals that stand as words of their own (`camelCase` and `_` divide words).
    pub(super) fn word_lines(&self, wanted: &[u16], literals: &Literals, text: &[u8]) -> Vec<usize> {
        let words = self
            .of(wanted)
            .filter(|(number, _, offset)| is_word(text, *offset as usize, literals.len_of(*number)));
        ascending(words.map(|(_, line, _)| line as usize))
    }

    fn of(&self, wanted: &[u16]) -> impl Iterator<Item = (u16, u32, u32)> {
        wanted.iter().flat_map(|number| {
            let from = self.0.partition_point(|hit| hit.0 < *number);
            self.0[from..].iter().take_while(move |hit| hit.0 == *number).copied()
        })
    }
}

fn ascending(lines: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut lines: Vec<usize> = lines.collect();
    lines.sort_unstable();
    lines.dedup();
    lines
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
}
