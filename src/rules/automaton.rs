//! How regular expressions are compiled: by the hook itself, and for the built-in packs by the build.
//!
//! Compiled into `build.rs` as well.

use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;

/// Memory of one compiled regular expression, in bytes; a pack whose pattern needs more is refused.
pub(crate) const REGEX_LIMIT: usize = 1 << 20;

/// ASCII bytes, a bit each.
pub(crate) type AsciiSet = u128;

/// One pattern that matches where any of them does.
pub(crate) fn one_of(sources: &[String]) -> String {
    match sources {
        [one] => one.clone(),
        _ => sources.iter().map(|source| format!("(?:{source})")).collect::<Vec<_>>().join("|"),
    }
}

/// Bytes, not letters: classes of Unicode take a millisecond to compile.
pub(crate) fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).multi_line(true)
}

/// For whether and where a text matches, not for what in it a group stands for.
pub(crate) fn without_groups() -> thompson::Config {
    thompson::Config::new().utf8(false).nfa_size_limit(Some(REGEX_LIMIT)).which_captures(WhichCaptures::None)
}
