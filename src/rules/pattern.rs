//! Regular expressions, compiled when first asked.

use std::sync::OnceLock;

use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;

use super::rule::Rule;

/// Memory of one compiled regular expression, in bytes; a pack whose pattern needs more is refused.
pub(super) const REGEX_LIMIT: usize = 1 << 20;

/// A regular expression that is compiled on first use.
pub(super) struct Pattern {
    source: String,
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Any one of the patterns.
    pub(super) fn new(sources: &[String]) -> Self {
        Self { source: one_of(sources), regex: OnceLock::new() }
    }

    /// The compiled form; none only for what loading would have refused.
    pub(super) fn get(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| compile(&self.source, REGEX_LIMIT).ok()).as_ref()
    }
}

fn one_of(sources: &[String]) -> String {
    match sources {
        [one] => one.clone(),
        _ => sources.iter().map(|source| format!("(?:{source})")).collect::<Vec<_>>().join("|"),
    }
}

/// Without the literal optimisations of the `regex` crate, which take two thirds of the time to compile and
/// gain nothing here, where the literals were found before.
pub(super) fn compile(source: &str, limit: usize) -> Result<Regex, Box<meta::BuildError>> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(limit))
        .auto_prefilter(false)
        // Left open, the number of cores is looked up in a dozen system files.
        .pool_capacity(8)
        .dfa(false)
        .onepass(false);
    let syntax = syntax::Config::new().unicode(false).utf8(false).multi_line(true);
    meta::Builder::new().configure(config).syntax(syntax).build(source).map_err(Box::new)
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
    Other(String),
}

impl Glob {
    pub(super) fn new(source: &str) -> Self {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '\\', '/', '!']);
        match source.strip_prefix("**/") {
            Some(name) if plain(name) => Self::Name(name.to_owned()),
            Some(rest) => match rest.strip_prefix('*') {
                Some(end) if plain(end) => Self::End(end.to_owned()),
                _ => Self::Other(source.to_owned()),
            },
            None => Self::Other(source.to_owned()),
        }
    }

    /// Whether a path fits.
    pub(super) fn fits(&self, path: &[u8]) -> bool {
        let name = || path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match self {
            Self::Name(wanted) => name() == wanted.as_bytes(),
            Self::End(end) => path.ends_with(end.as_bytes()) && name().len() >= end.len(),
            Self::Other(glob) => fast_glob::glob_match(glob, path),
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
    use super::Glob;

    proptest::proptest! {
        #[test]
        fn globs_match_as_the_library_says(
            glob in "(\\*\\*/)?(\\*)?[ab.]{0,3}(\\*|/b)?",
            path in "([ab.]{1,3}/){0,2}[ab.]{1,4}",
        ) {
            let expected = fast_glob::glob_match(&glob, &path);
            proptest::prop_assert_eq!(Glob::new(&glob).fits(path.as_bytes()), expected, "{} {}", glob, path);
        }
    }
}
