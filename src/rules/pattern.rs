//! Regular expressions, compiled when first asked.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex_automata::Input;
use regex_automata::dfa::{Automaton as _, sparse};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::{self, Regex};
use regex_automata::util::pool::{Pool, PoolGuard};

use super::automaton::{REGEX_LIMIT, one_of, syntax, without_groups};
use super::embedded::{self, Beside, Prepared};
use super::rule::Rule;

/// Threads that search with one pattern at once without waiting. Left open, the number of cores is looked up in a
/// dozen system files.
const AT_ONCE: usize = 8;

/// Bytes after which a pattern of the packs is compiled all the same: what the build made is there at once, but takes
/// longer over each of them.
const READY_FOR: usize = 16 << 10;

/// A regular expression. Those of the packs the build has made ready, as far as they are small; others are compiled on
/// first use: as far as is needed to say whether a text matches, which is all that most are asked and a third of the
/// work, and in full where a match is taken apart.
pub(super) struct Pattern {
    source: String,
    prepared: OnceLock<Prepared>,
    /// Bytes that were searched with what the build made.
    searched: AtomicUsize,
    forward: OnceLock<Option<Forward>>,
    full: OnceLock<Option<Regex>>,
}

/// What tells whether a text matches, and where the first match ends.
struct Forward {
    dfa: DFA,
    /// What searches have learnt so far.
    caches: Pool<Cache, NewCache>,
}

type NewCache = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// A pattern on its way through some texts.
pub(super) struct Finder<'a> {
    pattern: &'a Pattern,
    /// Bytes one of which every match holds, unless this is empty.
    needed: &'static [u8],
    automaton: Automaton<'a>,
}

enum Automaton<'a> {
    Ready(&'a sparse::DFA<&'static [u8]>),
    Forward(&'a Forward, PoolGuard<'a, Cache, NewCache>),
}

impl Pattern {
    /// Any one of the patterns.
    pub(super) fn new(sources: &[String]) -> Self {
        Self {
            source: one_of(sources),
            prepared: OnceLock::new(),
            searched: AtomicUsize::new(0),
            forward: OnceLock::new(),
            full: OnceLock::new(),
        }
    }

    /// What stands beside each of the keywords wherever it matches; none where that is not known.
    pub(super) fn beside(&self, keywords: &[String]) -> Option<&'static [Beside]> {
        embedded::beside(&self.source, keywords)
    }

    /// Ready to search a text; none only for what loading would have refused.
    pub(super) fn finder(&self) -> Option<Finder<'_>> {
        let prepared = self.prepared.get_or_init(|| embedded::prepared(&self.source));
        let automaton = match &prepared.automaton {
            Some(ready) if self.searched.load(Ordering::Relaxed) < READY_FOR => Automaton::Ready(ready),
            _ => {
                let forward = self.forward.get_or_init(|| forward(&self.source).ok()).as_ref()?;
                Automaton::Forward(forward, forward.caches.get())
            }
        };
        Some(Finder { pattern: self, needed: prepared.needed, automaton })
    }

    /// Whether a text matches.
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.finder().is_some_and(|mut finder| finder.is_match(text))
    }

    fn full(&self) -> Option<&Regex> {
        self.full.get_or_init(|| compile(&self.source, REGEX_LIMIT).ok()).as_ref()
    }
}

impl Finder<'_> {
    /// Whether a text matches.
    pub(super) fn is_match(&mut self, text: &[u8]) -> bool {
        self.end(text, 0).is_some()
    }

    /// Where the match ends that ends first behind `from`.
    pub(super) fn end(&mut self, text: &[u8], from: usize) -> Option<usize> {
        let there = match *self.needed {
            [one] => memchr::memchr(one, &text[from..]).is_some(),
            [one, other] => memchr::memchr2(one, other, &text[from..]).is_some(),
            [one, other, third] => memchr::memchr3(one, other, third, &text[from..]).is_some(),
            _ => true,
        };
        if !there {
            return None;
        }
        let input = Input::new(text).range(from..).earliest(true);
        let found = match &mut self.automaton {
            Automaton::Ready(ready) => {
                self.pattern.searched.fetch_add(input.get_span().len(), Ordering::Relaxed);
                ready.try_search_fwd(&input)
            }
            Automaton::Forward(forward, cache) => forward.dfa.try_search_fwd(cache, &input),
        };
        match found {
            Ok(found) => found.map(|found| found.offset()),
            // It never gives up as it is configured; were it to, the slow way knows.
            Err(_) => self.pattern.full()?.find(input).map(|found| found.end()),
        }
    }

    /// The parts of all matches that a group stands for.
    pub(super) fn groups<'t>(&mut self, text: &'t [u8], group: usize) -> impl Iterator<Item = &'t [u8]> {
        let full = if self.is_match(text) { self.pattern.full() } else { None };
        let all = full.into_iter().flat_map(move |regex| regex.captures_iter(text));
        all.filter_map(move |captures| captures.get_group(group)).map(|span| &text[span.range()])
    }
}

fn forward(source: &str) -> Result<Forward, Box<regex_automata::hybrid::BuildError>> {
    let config = DFA::config().skip_cache_capacity_check(true);
    let dfa = DFA::builder().configure(config).syntax(syntax()).thompson(without_groups()).build(source)?;
    let of = dfa.clone();
    let new_cache: NewCache = Box::new(move || of.create_cache());
    Ok(Forward { dfa, caches: Pool::with_capacity(AT_ONCE, new_cache) })
}

/// Without the literal optimisations of the `regex` crate, which take two thirds of the time to compile and
/// gain nothing here, where the literals were found before.
pub(super) fn compile(source: &str, limit: usize) -> Result<Regex, Box<meta::BuildError>> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(limit))
        .auto_prefilter(false)
        .pool_capacity(AT_ONCE)
        .dfa(false)
        .onepass(false);
    meta::Builder::new().configure(config).syntax(syntax()).build(source).map_err(Box::new)
}

/// What is wrong with a pattern, in one line.
pub(super) fn explain(error: &meta::BuildError) -> String {
    let text = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A glob, the commonest kinds of which need no matching letter by letter.
pub(super) enum Glob {
    /// `**/` and what a path's last part is.
    Name(String),
    /// `**/*` and what a path's last part ends with.
    End(String),
    /// A glob, and what every path that fits it has somewhere.
    Other(String, String),
}

impl Glob {
    pub(super) fn new(source: &str) -> Self {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '\\', '/', '!']);
        let below = source.strip_prefix("**/");
        if let Some(name) = below.filter(|name| plain(name)) {
            return Self::Name(name.to_owned());
        }
        if let Some(end) = below.and_then(|rest| rest.strip_prefix('*')).filter(|end| plain(end)) {
            return Self::End(end.to_owned());
        }
        // Where there are alternatives, nothing is certain.
        let parts = if source.contains(['[', '{', '\\', '!']) { "" } else { source }.split(['*', '?', '/']);
        let part = parts.max_by_key(|part| part.len()).unwrap_or_default();
        Self::Other(source.to_owned(), part.to_owned())
    }

    /// Whether a path fits.
    pub(super) fn fits(&self, path: &[u8]) -> bool {
        let name = || path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match self {
            Self::Name(wanted) => name() == wanted.as_bytes(),
            Self::End(end) => path.ends_with(end.as_bytes()) && name().len() >= end.len(),
            Self::Other(glob, part) => {
                memchr::memmem::find(path, part.as_bytes()).is_some() && fast_glob::glob_match(glob, path)
            }
        }
    }
}

/// Tries all patterns of a rule, each in so many bytes; what is wrong comes back as text.
pub(super) fn try_patterns(rule: &Rule, limit: usize) -> Result<(), String> {
    let selections = rule.sel.values().map(|selection| (&selection.regex, &selection.glob, selection.group));
    let allows = rule.allow.iter().map(|allow| (&allow.regex, &allow.path, None));
    for (regexes, globs, group) in selections.chain(allows) {
        for source in regexes {
            let regex =
                compile(source, limit).map_err(|error| format!("regex {source:?}: {}", explain(&error)))?;
            if group
                .is_some_and(|group| group >= regex.group_info().group_len(regex_automata::PatternID::ZERO))
            {
                return Err(format!("regex {source:?} has no such group"));
            }
            if regex.is_match(&b""[..]) && !source.contains('$') {
                return Err(format!("regex {source:?} matches everything"));
            }
        }
        compile(&one_of(regexes), limit)
            .map_err(|error| format!("the regexes together: {}", explain(&error)))?;
        for glob in globs {
            fast_glob::validate(glob).map_err(|error| format!("glob {glob:?}: {error}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Glob, Pattern, Prepared, READY_FOR, embedded};
    use crate::rules::RuleSet;

    /// What the build made is another library's work than what is compiled here.
    #[test]
    fn a_ready_automaton_finds_what_the_pattern_finds() {
        let rules = RuleSet::builtin();
        let texts: Vec<String> =
            rules.rules().flat_map(|rule| &rule.test).map(|test| format!("{test:?}")).collect();
        let (mut ready, mut few) = (0, 0);
        for selection in rules.rules().flat_map(|rule| rule.sel.values()).filter(|sel| !sel.regex.is_empty())
        {
            let pattern = Pattern::new(&selection.regex);
            let Prepared { automaton: Some(automaton), needed } = embedded::prepared(&pattern.source) else {
                continue;
            };
            ready += 1;
            few += usize::from(!needed.is_empty());
            pattern.searched.store(READY_FOR, std::sync::atomic::Ordering::Relaxed);
            let mut compiled = pattern.finder().expect("it is compiled");
            assert!(matches!(compiled.automaton, super::Automaton::Forward(..)));
            compiled.needed = &[];
            let automaton = super::Automaton::Ready(&automaton);
            let mut finder = super::Finder { pattern: &pattern, needed, automaton };
            for text in texts.iter().map(String::as_bytes) {
                assert_eq!(finder.end(text, 0), compiled.end(text, 0), "{}", pattern.source);
                let full = pattern.full().expect("it is compiled");
                assert_eq!(finder.is_match(text), full.is_match(text), "{}", pattern.source);
            }
        }
        assert!(ready > 50 && few > 20, "{ready} {few}");
    }

    proptest::proptest! {
        #[test]
        fn globs_match_as_the_library_says(
            glob in "(\\*\\*/)?(\\*)?[ab.]{0,3}(\\*|/b|\\?|\\{a,b\\}|\\[ab\\]|/\\*\\*|\\*.)?",
            path in "([ab.]{1,3}/){0,2}[ab.]{1,4}",
        ) {
            let expected = fast_glob::glob_match(&glob, &path);
            proptest::prop_assert_eq!(Glob::new(&glob).fits(path.as_bytes()), expected, "{} {}", glob, path);
        }
    }
}
