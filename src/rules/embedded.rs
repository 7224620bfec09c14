//! The packs of this program, as `build.rs` wrote them: nothing is left to read or to fill when a hook starts.

use std::borrow::Cow;

use regex_automata::dfa::sparse;

use super::Files;
use super::automaton::AsciiSet;
use super::index::{Entry, Index};
use super::matcher::Gates;
use super::pack::{Known, PackId};
use crate::literals::literals;

include!(concat!(env!("OUT_DIR"), "/rules.rs"));

const KNOWN: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.known"));
/// Automata, one behind the other.
static AUTOMATA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.automata"));
const SOURCES: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.sources"));

/// Which rules are worth asking.
pub(super) fn gates() -> Gates {
    Gates {
        text: literals!(TEXT),
        text_rules: Cow::Borrowed(&TEXT_RULES),
        path: literals!(PATH),
        path_rules: Cow::Borrowed(&PATH_RULES),
        message: Cow::Borrowed(&MESSAGE),
        always: Cow::Borrowed(&ALWAYS),
        items: Cow::Borrowed(&ITEMS),
        commit: Cow::Borrowed(&COMMIT),
    }
}

/// The same, for adding to it.
pub(super) fn index() -> Index {
    let entries = |literals: &[Cow<'static, str>], rules: &[Cow<'static, str>]| {
        literals.iter().cloned().zip(rules.iter().cloned()).collect()
    };
    Index {
        text: entries(&TEXT, &TEXT_RULES),
        path: entries(&PATH, &PATH_RULES),
        always: ALWAYS.to_vec(),
        message: MESSAGE.to_vec(),
        items: ITEMS.to_vec(),
        commit: COMMIT.to_vec(),
    }
}

/// A pattern; where its automaton begins and ends; bytes one of which every match holds; and for the keywords of each
/// selection that has it, what stands beside them.
type Made =
    (&'static str, usize, usize, &'static [u8], &'static [(&'static [&'static str], &'static [Beside])]);

/// The ASCII bytes that may stand before and behind a keyword at once, in one way or another.
pub(super) type Beside = &'static [(AsciiSet, AsciiSet)];

/// What the build made of a pattern.
#[derive(Default)]
pub(super) struct Prepared {
    /// Its automaton, where that is small.
    pub(super) automaton: Option<sparse::DFA<&'static [u8]>>,
    /// Bytes one of which every match holds; empty where there are none worth looking for.
    pub(super) needed: &'static [u8],
}

/// What the build made of a pattern; nothing of one that is not in the packs.
pub(super) fn prepared(source: &str) -> Prepared {
    let Some((_, start, end, needed, _)) = made(source) else { return Prepared::default() };
    let bytes = AUTOMATA.get(*start..*end).filter(|bytes| !bytes.is_empty());
    #[expect(unsafe_code, reason = "checking one takes as long as compiling the pattern")]
    // SAFETY: a part of this program, written by this version of the library: the lock file has one.
    let automaton = bytes.and_then(|bytes| unsafe { sparse::DFA::from_bytes_unchecked(bytes) }.ok());
    Prepared { automaton: automaton.map(|(automaton, _)| automaton), needed }
}

/// What stands beside each of the keywords wherever a pattern matches.
pub(super) fn beside(source: &str, keywords: &[String]) -> Option<&'static [Beside]> {
    let (.., all) = made(source)?;
    all.iter().find(|(of, _)| *of == keywords).map(|(_, beside)| *beside)
}

fn made(source: &str) -> Option<&'static Made> {
    PATTERNS.binary_search_by(|(other, ..)| (*other).cmp(source)).ok().map(|at| &PATTERNS[at])
}

/// Names and versions.
pub(super) fn ids() -> Vec<PackId> {
    PACKS
        .iter()
        .map(|(id, version)| PackId { id: (*id).to_owned(), version: (*version).to_owned() })
        .collect()
}

// Both are written by the build from the same types: a test parses them.

pub(super) fn known() -> Vec<Known> {
    serde_json::from_str(KNOWN).unwrap_or_default()
}

/// The files of the packs.
pub(super) fn sources() -> Vec<Files> {
    serde_json::from_str(SOURCES).unwrap_or_default()
}
