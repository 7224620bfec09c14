//! Finds all of some hundred literals in one pass, in any case.
//!
//! Not an Aho-Corasick automaton, because that has to be built before its first use: 0.29 ms for 500
//! keywords, a fifth of what a whole hook may cost. Here a few tables are filled in microseconds, and a
//! search takes half of the automaton's time.
//!
//! Only every second position of the text is looked at, in windows of four bytes. A literal of five bytes
//! or more covers two neighbouring windows, one of which begins at such a position, and has an anchor for
//! each. One of three or four bytes may stick out of the window, by its end or by its beginning: its anchors
//! know which bytes of the window count.
//!
//! The anchors are in 64 groups. For the first and for the second pair of bytes of a window a table tells
//! the groups that have such a pair; few windows have a group in common, and only those are compared.

use std::borrow::Cow;

/// Groups of anchors whose whole window counts: the upper bits of a set of groups. Below them eight for those
/// whose last byte does not count, and eight for those whose first does not; these begin later in the text and
/// come last.
const FULL: u32 = 48;
const PARTIAL: u32 = 16;
/// The groups of the anchors whose last byte does not count.
const HEADS: u64 = 0xff00;
/// The groups of those whose first byte does not count.
const TAILS: u64 = 0x00ff;

/// Pairs of bytes, each with its lower five bits: letters of both cases fall together.
const PAIRS: usize = 1 << 10;

/// Buckets of the anchors of one kind, a power of two.
const BUCKETS: usize = 1 << 9;

/// Folds the case of four letters at once. Other bytes fall together too (`@` and a backquote): what is
/// found through a window is compared exactly.
const FOLD: u32 = 0x2020_2020;

/// A set of literals, searchable at once.
pub(crate) struct Literals {
    /// The groups with a pair of bytes in the first and in the second half of a window.
    first: Box<[u64; PAIRS]>,
    second: Box<[u64; PAIRS]>,
    full: Buckets,
    /// Anchors whose last byte does not count.
    heads: Buckets,
    /// Anchors whose first byte does not count.
    tails: Buckets,
    /// Lower case, sorted.
    literals: Vec<Cow<'static, str>>,
}

/// Where a literal is recognised.
#[derive(Clone, Copy, Default)]
struct Anchor {
    /// The window, little endian, folded, and the bytes of it that count.
    window: u32,
    mask: u32,
    /// The four bytes behind it, likewise.
    behind: u32,
    behind_mask: u32,
    literal: u16,
    /// How far before the window the literal begins.
    back: i16,
}

impl Anchor {
    /// A literal's window that begins `back` bytes behind the literal's beginning.
    fn new(literal: u16, text: &[u8], back: i16) -> Self {
        let byte = |at: i16| usize::try_from(at + back).ok().and_then(|at| text.get(at));
        let four = |from: i16| {
            (from..from + 4).rev().map(byte).fold((0, 0), |(bytes, mask), byte| match byte {
                Some(byte) => (bytes << 8 | u32::from(*byte) | 0x20, mask << 8 | 0xff),
                None => (bytes << 8, mask << 8),
            })
        };
        let ((window, mask), (behind, behind_mask)) = (four(0), four(4));
        Self { window, mask, behind, behind_mask, literal, back }
    }

    /// The bit of its group: anchors with a pair in common share one, which keeps the tables sparse.
    fn group(&self) -> u32 {
        let by = |pair: u32, groups: u32| (pair.wrapping_mul(0x9E37_79B1) >> 16) % groups;
        match self.mask {
            u32::MAX => PARTIAL + by(self.window & 0xffff, FULL),
            mask if mask & 0xff == 0 => by(self.window >> 16, 8),
            _ => 8 + by(self.window & 0xffff, 8),
        }
    }
}

/// Anchors, sorted into numbered buckets.
struct Buckets {
    /// Where each begins, and a last one where all end.
    starts: Vec<u16>,
    anchors: Vec<Anchor>,
}

impl Buckets {
    fn new(unsorted: &[Anchor]) -> Self {
        let bucket = |anchor: &Anchor| bucket(anchor.window & anchor.mask);
        let mut starts = vec![0_u16; BUCKETS + 1];
        for anchor in unsorted {
            starts[bucket(anchor) + 1] += 1;
        }
        for at in 1..=BUCKETS {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut anchors = vec![Anchor::default(); unsorted.len()];
        for anchor in unsorted {
            let place = &mut next[bucket(anchor)];
            anchors[usize::from(*place)] = *anchor;
            *place += 1;
        }
        Self { starts, anchors }
    }

    /// The anchors that may fit a window, of which the bytes that do not count are zero.
    fn of(&self, window: u32) -> &[Anchor] {
        let bucket = bucket(window);
        &self.anchors[usize::from(self.starts[bucket])..usize::from(self.starts[bucket + 1])]
    }
}

impl Literals {
    /// Takes sorted lower-case literals of three bytes or more; those beyond 30 000 are left out.
    pub(crate) fn new(literals: Vec<Cow<'static, str>>) -> Self {
        let (mut full, mut heads, mut tails) =
            (Vec::with_capacity(2 * literals.len()), Vec::new(), Vec::new());
        for (number, text) in (0..30_000).zip(&literals).filter(|(_, text)| text.len() >= 3) {
            let other = if text.len() > 4 { 1 } else { -1 };
            for anchor in [0, other].map(|back| Anchor::new(number, text.as_bytes(), back)) {
                let kind = match anchor.mask {
                    u32::MAX => &mut full,
                    mask if mask & 0xff == 0 => &mut tails,
                    _ => &mut heads,
                };
                kind.push(anchor);
            }
        }
        let mut first = Box::new([0; PAIRS]);
        let mut second = Box::new([0; PAIRS]);
        for anchor in full.iter().chain(&heads).chain(&tails) {
            let bit = 1 << anchor.group();
            set(&mut first, anchor.window & 0xffff, anchor.mask & 0xffff, bit);
            set(&mut second, anchor.window >> 16, anchor.mask >> 16, bit);
        }
        Self {
            first,
            second,
            full: Buckets::new(&full),
            heads: Buckets::new(&heads),
            tails: Buckets::new(&tails),
            literals,
        }
    }

    /// The number of a literal (lower case).
    pub(crate) fn number(&self, literal: &str) -> Option<u16> {
        let at = self.literals.binary_search_by(|other| other.as_ref().cmp(literal)).ok()?;
        u16::try_from(at).ok()
    }

    /// How long a literal is, in bytes.
    pub(crate) fn len_of(&self, number: u16) -> usize {
        self.literals[usize::from(number)].len()
    }

    /// Calls `found` with number and offset of every occurrence, those of one literal in their order.
    pub(crate) fn search(&self, text: &[u8], mut found: impl FnMut(u16, usize)) {
        let mut at = 0;
        while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let window = u32::from_le_bytes(*window);
            let groups = self.groups(window);
            if groups != 0 {
                self.compare(text, at, window, groups, &mut found);
            }
            at += 2;
        }
        // The last windows reach beyond the text.
        while at < text.len() {
            let window = four(text, at);
            self.compare(text, at, window, self.groups(window), &mut found);
            at += 2;
        }
    }

    /// The groups that have both pairs of a window.
    fn groups(&self, window: u32) -> u64 {
        let pairs = window & 0x001f_001f | window >> 3 & 0x03e0_03e0;
        self.first[(pairs & 0x03ff) as usize] & self.second[(pairs >> 16) as usize]
    }

    #[inline(never)]
    fn compare(&self, text: &[u8], at: usize, window: u32, groups: u64, found: &mut impl FnMut(u16, usize)) {
        let (window, behind) = (window | FOLD, four(text, at + 4) | FOLD);
        let mut compare = |anchor: &Anchor| {
            let fits = (anchor.window ^ window) & anchor.mask == 0
                && (anchor.behind ^ behind) & anchor.behind_mask == 0;
            if !fits {
                return;
            }
            let literal = self.literals[usize::from(anchor.literal)].as_bytes();
            let start = at.checked_add_signed(-isize::from(anchor.back));
            let here = start.and_then(|start| Some((start, text.get(start..start + literal.len())?)));
            if let Some((start, here)) = here
                && here.eq_ignore_ascii_case(literal)
            {
                found(anchor.literal, start);
            }
        };
        if groups >> PARTIAL != 0 {
            self.full.of(window).iter().for_each(&mut compare);
        }
        if groups & HEADS != 0 {
            self.heads.of(window & 0x00ff_ffff).iter().for_each(&mut compare);
        }
        if groups & TAILS != 0 {
            self.tails.of(window & 0xffff_ff00).iter().for_each(&mut compare);
        }
    }
}

/// Adds a group to all pairs that agree with `pair` in the bytes that count.
fn set(table: &mut [u64; PAIRS], pair: u32, mask: u32, group: u64) {
    let (low, high) = (pair & 0x1f, pair >> 3 & 0x03e0);
    match mask {
        0xffff => table[(low | high) as usize] |= group,
        0xff00 => (0..32).for_each(|low| table[(low | high) as usize] |= group),
        _ => (0..32).for_each(|high| table[(low | high << 5) as usize] |= group),
    }
}

/// Four bytes from `at`, little endian; beyond the end zeros.
fn four(text: &[u8], at: usize) -> u32 {
    match text.get(at..).unwrap_or_default() {
        [a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]),
        rest => rest.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
    }
}

/// Bucket of a folded window.
fn bucket(window: u32) -> usize {
    (window.wrapping_mul(0x85EB_CA6B) >> 16) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(literals: &[&str], text: &str) -> Vec<(String, usize)> {
        let set = Literals::new(literals.iter().map(|literal| Cow::Owned((*literal).to_owned())).collect());
        let mut found = Vec::new();
        set.search(text.as_bytes(), |number, at| found.push((literals[usize::from(number)].to_owned(), at)));
        found
    }

    #[test]
    fn finds_overlapping_literals_in_any_case() {
        let found = all(&["audit", "auditlog", "dit", "log"], "AuditLog, no Audi");
        let expected = [("audit", 0), ("auditlog", 0), ("dit", 2), ("log", 5)];
        assert_eq!(found, expected.map(|(literal, at)| (literal.to_owned(), at)));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_plain_search(text in "[abAB@ \\n\u{e9}]{0,60}") {
            let literals = ["aab", "aba", "abab", "ababb", "b a", "baba", "bababa", "bbb"];
            let lower = text.to_ascii_lowercase();
            let mut expected = Vec::new();
            for literal in literals {
                let starts = (0..lower.len()).filter(|at| lower.as_bytes()[*at..].starts_with(literal.as_bytes()));
                expected.extend(starts.map(|at| (literal.to_owned(), at)));
            }
            let mut found = all(&literals, &text);
            // The sort is stable: the order of one literal's occurrences is checked too.
            found.sort_by(|one, other| one.0.cmp(&other.0));
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
