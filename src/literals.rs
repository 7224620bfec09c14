//! Finds all of some hundred literals in one pass, in any case.
//!
//! Not an Aho-Corasick automaton, because that has to be built before its first use: 0.29 ms for 500
//! keywords, a fifth of what a whole hook may cost. Here a few tables are filled in microseconds, by the compiler
//! where the set is a constant, and a search takes half of the automaton's time.
//!
//! Only every second position of the text is looked at, in windows of four bytes. A literal of five bytes
//! or more covers two neighbouring windows, one of which begins at such a position, and has an anchor for
//! each: of all its windows the two that texts have least. One of three or four bytes may stick out of the
//! window, by its end or by its beginning: its anchors know which bytes of the window count.
//!
//! The anchors are in 64 groups. For the first and for the second pair of bytes of a window a table tells
//! the groups that have such a pair; few windows have a group in common, and only those are compared.

mod rarity;

use std::borrow::Cow;
use std::ops::{Deref, Range};

use rarity::rarest;

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

/// Buckets of the anchors, by kind: those whose whole window counts, those whose last byte does not, those whose first
/// does not. Many of the first, so that most windows meet none.
const BUCKETS: [usize; 3] = [1 << 12, 1 << 9, 1 << 9];
const ALL_BUCKETS: usize = BUCKETS[0] + BUCKETS[1] + BUCKETS[2];

/// Folds the case of four letters at once. Other bytes fall together too (`@` and a backquote): what is
/// found through a window is compared exactly.
const FOLD: u32 = 0x2020_2020;

/// Literals beyond this many are left out, so that the places of their anchors have room in 16 bits.
const LIMIT: usize = 30_000;

/// A set of literals, searchable at once.
pub(crate) struct Literals {
    tables: TablesOf,
    /// Two for each literal, in the order of their buckets.
    anchors: Cow<'static, [Anchor]>,
    /// Lower case; sorted, where a number is asked for.
    literals: Cow<'static, [Cow<'static, str>]>,
}

/// The tables of a set; not a `Cow`, which would have room for them in itself and be moved about with it.
enum TablesOf {
    Constant(&'static Tables),
    Other(Box<Tables>),
}

impl Deref for TablesOf {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        match self {
            Self::Constant(tables) => tables,
            Self::Other(tables) => tables,
        }
    }
}

/// Everything but the anchors: of one size for any set.
pub(crate) struct Tables {
    /// The groups with a pair of bytes in the first and in the second half of a window.
    first: [u64; PAIRS],
    second: [u64; PAIRS],
    /// The groups with a pair in the middle of a window, where both bytes of all anchors count.
    middle: [u64; PAIRS],
    /// Where the anchors of each bucket begin, and a last one where all end.
    starts: [u16; ALL_BUCKETS + 1],
}

/// Where a literal is recognised.
#[derive(Clone, Copy)]
pub(crate) struct Anchor {
    /// The window, little endian, folded, and the bytes of it that count.
    window: u32,
    mask: u32,
    /// The four bytes behind it, likewise.
    behind: u32,
    behind_mask: u32,
    literal: u16,
    /// How far before the window the literal begins.
    back: i16,
    /// Whether the eight bytes say all: the literal has no other, and letters alone.
    whole: bool,
}

impl Anchor {
    pub(crate) const NONE: Self =
        Self { window: 0, mask: 0, behind: 0, behind_mask: 0, literal: 0, back: 0, whole: false };

    /// A literal's window that begins `back` bytes behind the literal's beginning.
    const fn new(literal: u16, text: &[u8], back: i16) -> Self {
        let ((window, mask), (behind, behind_mask)) = (folded(text, back), folded(text, back + 4));
        let whole = back == 0 && text.len() <= 8 && letters(text);
        Self { window, mask, behind, behind_mask, literal, back, whole }
    }

    /// The bit of its group: anchors with a pair in common share one, which keeps the tables sparse.
    const fn group(&self) -> u32 {
        match self.kind() {
            0 => PARTIAL + spread(self.window & 0xffff, 0x9E37_79B1) % FULL,
            1 => 8 + spread(self.window & 0xffff, 0x9E37_79B1) % 8,
            _ => spread(self.window >> 16, 0x9E37_79B1) % 8,
        }
    }

    const fn kind(&self) -> usize {
        match self.mask {
            u32::MAX => 0,
            mask if mask & 0xff != 0 => 1,
            _ => 2,
        }
    }

    const fn bucket(&self) -> usize {
        bucket(self.kind(), self.window & self.mask)
    }
}

impl Tables {
    const EMPTY: Self =
        Self { first: [0; PAIRS], second: [0; PAIRS], middle: [0; PAIRS], starts: [0; ALL_BUCKETS + 1] };

    /// Fills `anchors`, two for each of the lower-case literals, and the tables that lead to them.
    pub(crate) const fn fill(literals: &[Cow<'static, str>], anchors: &mut [Anchor]) -> Self {
        let mut tables = Self::EMPTY;
        // How many of each bucket there are, one place further on; then where each begins.
        let mut at = 0;
        while at < 2 * literals.len() {
            if let Some(anchor) = anchor(literals, at) {
                tables.starts[anchor.bucket() + 1] += 1;
            }
            at += 1;
        }
        let mut at = 1;
        while at < tables.starts.len() {
            tables.starts[at] += tables.starts[at - 1];
            at += 1;
        }
        let mut next = tables.starts;
        let mut at = 0;
        while at < 2 * literals.len() {
            if let Some(anchor) = anchor(literals, at) {
                let place = &mut next[anchor.bucket()];
                anchors[*place as usize] = anchor;
                *place += 1;
                let group = 1 << anchor.group();
                set(&mut tables.first, anchor.window & 0xffff, anchor.mask & 0xffff, group);
                set(&mut tables.second, anchor.window >> 16, anchor.mask >> 16, group);
                set(&mut tables.middle, anchor.window >> 8 & 0xffff, 0xffff, group);
            }
            at += 1;
        }
        tables
    }

    /// The groups that have both pairs of a window.
    fn groups(&self, window: u32) -> u64 {
        let pairs = pairs(u64::from(window));
        self.first[(pairs & 0x03ff) as usize] & self.second[(pairs >> 16) as usize]
    }

    /// Those of `groups` that have the pair in the middle of the window too.
    fn through(&self, window: u32, groups: u64) -> u64 {
        groups & self.middle[(window >> 8 & 0x1f | window >> 11 & 0x03e0) as usize]
    }

    /// Which anchors may fit a window, of which the bytes that do not count are zero.
    fn bucket(&self, kind: usize, window: u32) -> Range<usize> {
        let bucket = bucket(kind, window);
        usize::from(self.starts[bucket])..usize::from(self.starts[bucket + 1])
    }
}

/// One of the two anchors of each literal; none for literals shorter than three bytes.
#[expect(clippy::cast_possible_truncation, reason = "the limit is below what 16 bits hold")]
const fn anchor(literals: &[Cow<'static, str>], at: usize) -> Option<Anchor> {
    let number = at / 2;
    let text = match &literals[number] {
        Cow::Borrowed(text) => text.as_bytes(),
        Cow::Owned(text) => text.as_bytes(),
    };
    if text.len() < 3 || number >= LIMIT {
        return None;
    }
    let back = match at % 2 {
        second if text.len() > 4 => rarest(text) + second as i16,
        0 => 0,
        _ => -1,
    };
    Some(Anchor::new(number as u16, text, back))
}

/// A set of literals made ready by the compiler, of a static array of lower-case `Cow::Borrowed`; sorted, where
/// [`Literals::number`] is asked.
macro_rules! literals {
    ($words:path) => {{
        use $crate::literals::{Anchor, Literals, Tables};
        static READY: ([Anchor; 2 * $words.len()], Tables) = {
            let mut anchors = [Anchor::NONE; 2 * $words.len()];
            let tables = Tables::fill(&$words, &mut anchors);
            (anchors, tables)
        };
        Literals::ready(&READY.1, &READY.0, &$words)
    }};
}
pub(crate) use literals;

impl Literals {
    /// Takes sorted lower-case literals of three bytes or more; those beyond 30 000 are left out.
    pub(crate) fn new(literals: Vec<Cow<'static, str>>) -> Self {
        let mut anchors = vec![Anchor::NONE; 2 * literals.len()];
        let tables = Tables::fill(&literals, &mut anchors);
        Self { tables: TablesOf::Other(Box::new(tables)), anchors: anchors.into(), literals: literals.into() }
    }

    /// What [`literals!`] made.
    pub(crate) const fn ready(
        tables: &'static Tables,
        anchors: &'static [Anchor],
        literals: &'static [Cow<'static, str>],
    ) -> Self {
        Self {
            tables: TablesOf::Constant(tables),
            anchors: Cow::Borrowed(anchors),
            literals: Cow::Borrowed(literals),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.literals.len()
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
        let tables = &*self.tables;
        // Four pairs at a time, each of them the second half of one window and the first of the next.
        let (chunks, _) = text.as_chunks::<8>();
        let mut before = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            let pairs = pairs(u64::from_le_bytes(*chunk));
            for half in 0..4 {
                let pair = (pairs >> (16 * half) & 0x03ff) as usize;
                let groups = before & tables.second[pair];
                before = tables.first[pair];
                if groups != 0 {
                    self.compare(text, 8 * number + 2 * half - 2, groups, &mut found);
                }
            }
        }
        // The last windows, some of which reach beyond the text.
        let mut at = (8 * chunks.len()).saturating_sub(2);
        while at < text.len() {
            self.compare(text, at, tables.groups(four(text, at)), &mut found);
            at += 2;
        }
    }

    /// Compares the anchors of some groups with the window at `at`. Not a part of the loop that calls it, which meets
    /// few such windows and is short without it.
    #[inline(never)]
    fn compare(&self, text: &[u8], at: usize, groups: u64, found: &mut impl FnMut(u16, usize)) {
        let window = four(text, at);
        let groups = self.tables.through(window, groups);
        if groups == 0 {
            return;
        }
        let (window, behind) = (window | FOLD, four(text, at + 4) | FOLD);
        let mut compare = |anchor: &Anchor| {
            let fits = (anchor.window ^ window) & anchor.mask == 0
                && (anchor.behind ^ behind) & anchor.behind_mask == 0;
            if !fits {
                return;
            }
            if anchor.whole {
                return found(anchor.literal, at);
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
        let mut all_of = |kind, window| {
            self.anchors[self.tables.bucket(kind, window)].iter().for_each(&mut compare);
        };
        if groups >> PARTIAL != 0 {
            all_of(0, window);
        }
        if groups & HEADS != 0 {
            all_of(1, window & 0x00ff_ffff);
        }
        if groups & TAILS != 0 {
            all_of(2, window & 0xffff_ff00);
        }
    }
}

/// Four bytes from `from`, little endian and folded, and a mask of those that lie within the text.
const fn folded(text: &[u8], from: i16) -> (u32, u32) {
    let (mut bytes, mut mask, mut at) = (0, 0, 4);
    while at > 0 {
        at -= 1;
        let place = from as isize + at;
        (bytes, mask) = (bytes << 8, mask << 8);
        if place >= 0 && place.cast_unsigned() < text.len() {
            bytes |= text[place.cast_unsigned()] as u32 | 0x20;
            mask |= 0xff;
        }
    }
    (bytes, mask)
}

/// Each two bytes as their number among the pairs.
const fn pairs(bytes: u64) -> u64 {
    bytes & 0x001f_001f_001f_001f | bytes >> 3 & 0x03e0_03e0_03e0_03e0
}

/// Whether all are lower-case letters, which no other byte is taken for.
const fn letters(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() && text[at].is_ascii_lowercase() {
        at += 1;
    }
    at == text.len()
}

/// Adds a group to all pairs that agree with `pair` in the bytes that count.
const fn set(table: &mut [u64; PAIRS], pair: u32, mask: u32, group: u64) {
    let (low, high) = (pair & 0x1f, pair >> 3 & 0x03e0);
    let mut any = 0;
    while any < 32 {
        let pair = match mask {
            0xffff => low | high,
            0xff00 => any | high,
            _ => low | any << 5,
        };
        table[pair as usize] |= group;
        any += if mask == 0xffff { 32 } else { 1 };
    }
}

/// Four bytes from `at`, little endian; beyond the end zeros.
fn four(text: &[u8], at: usize) -> u32 {
    match text.get(at..).unwrap_or_default() {
        [a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]),
        rest => rest.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
    }
}

/// A number of 16 bits from one of 32.
const fn spread(number: u32, by: u32) -> u32 {
    number.wrapping_mul(by) >> 16
}

/// Bucket of a folded window.
const fn bucket(kind: usize, window: u32) -> usize {
    let among = spread(window, 0x85EB_CA6B) as usize % BUCKETS[kind];
    match kind {
        0 => among,
        1 => BUCKETS[0] + among,
        _ => BUCKETS[0] + BUCKETS[1] + among,
    }
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
        let mut found = all(&["audit", "auditlog", "dit", "log"], "AuditLog, no Audi");
        found.sort();
        let expected = [("audit", 0), ("auditlog", 0), ("dit", 2), ("log", 5)];
        assert_eq!(found, expected.map(|(literal, at)| (literal.to_owned(), at)));
    }

    proptest::proptest! {
        #[test]
        fn finds_long_literals_wherever_their_rarest_bytes_are(
            parts in proptest::collection::vec(0..6_usize, 0..8), gaps in "[ aE_9\u{e9}]{8}", upper: bool,
        ) {
            let long = "a quick brown fox jumps over the lazy dog and goes on to eat a zebra and another quick one";
            let literals = ["authorization", "identifier-of-patient", "m\u{e9}dicament", "reindexing", long, "zzyzx road"];
            let mut text = String::new();
            for (part, gap) in parts.iter().zip(gaps.chars()) {
                text.push(gap);
                text += &if upper { literals[*part].to_ascii_uppercase() } else { literals[*part].to_owned() };
            }
            let mut found: Vec<String> = all(&literals, &text).into_iter().map(|(literal, _)| literal).collect();
            let mut expected: Vec<&str> = parts.iter().map(|part| literals[*part]).collect();
            found.sort();
            expected.sort_unstable();
            proptest::prop_assert_eq!(found, expected);
        }

        #[test]
        fn agrees_with_a_plain_search(text in "[abAB@ \\n\u{e9}]{0,60}") {
            let literals = ["aab", "aba", "abab", "ababb", "ab@b ba", "b a", "baba", "bababa", "bbb", "bbbb a"];
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
