//! One rule made ready: its selections asked of one file, its allowances, its points.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use super::lines::{Moves, is_comment, line_of};
use super::literals::Literals;
use super::matcher::FileView;
use super::rule::{Allow, Class, Rule, Selection, Status, Subject, Without};
use super::{Allowed, Side, validators};
use crate::facts::{ChangedFile, CommitFacts, Person, RepoPath, SideText};

/// Memory of one compiled regular expression, in bytes; a pack whose pattern needs more is refused.
const REGEX_LIMIT: usize = 1 << 20;

/// What is the same for all files of a commit.
pub(super) struct Commit<'a> {
    pub(super) facts: &'a CommitFacts,
    pub(super) class: Class,
    pub(super) moves: Moves<'a>,
}

/// A rule that holds for a file, or for the commit.
pub(super) struct Found {
    pub(super) side: Side,
    pub(super) line: Option<u32>,
    pub(super) count: u32,
    /// Points before the further files' share and the caps.
    pub(super) points: f64,
    /// Indices of the hit lines, where the side is text.
    lines: Vec<usize>,
}

/// A selection that holds.
struct Held {
    side: Side,
    line: Option<u32>,
    count: u32,
    factor: f64,
    lines: Vec<usize>,
}

/// A rule with the numbers of its literals and its regular expressions, these compiled when asked.
pub(super) struct Compiled {
    pub(super) rule: Rule,
    keywords: BTreeMap<String, Vec<u16>>,
    context: BTreeMap<String, Vec<u16>>,
    patterns: BTreeMap<String, Pattern>,
    allow: Vec<Pattern>,
}

/// A regular expression that is compiled on first use.
struct Pattern {
    source: String,
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(sources: &[String]) -> Self {
        Self { source: one_of(sources), regex: OnceLock::new() }
    }

    fn get(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| compile(&self.source).ok()).as_ref()
    }
}

fn one_of(sources: &[String]) -> String {
    match sources {
        [one] => one.clone(),
        _ => sources.iter().map(|source| format!("(?:{source})")).collect::<Vec<_>>().join("|"),
    }
}

fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).unicode(false).multi_line(true).size_limit(REGEX_LIMIT).build()
}

/// Tries all patterns of a rule; what is wrong comes back as text.
pub(super) fn try_patterns(rule: &Rule) -> Result<(), String> {
    let selections = rule.sel.values().map(|selection| (&selection.regex, &selection.glob, selection.group));
    let allows = rule.allow.iter().map(|allow| (&allow.regex, &allow.path, None));
    for (regexes, globs, group) in selections.chain(allows) {
        for source in regexes {
            let regex = compile(source)
                .map_err(|error| format!("regex {source:?}: {}", error.to_string().replace('\n', " ")))?;
            if group.is_some_and(|group| group >= regex.captures_len()) {
                return Err(format!("regex {source:?} has no such group"));
            }
            if regex.is_match(b"") && !source.contains('$') {
                return Err(format!("regex {source:?} matches everything"));
            }
        }
        compile(&one_of(regexes))
            .map_err(|error| format!("the regexes together: {}", error.to_string().replace('\n', " ")))?;
        for glob in globs {
            fast_glob::validate(glob).map_err(|error| format!("glob {glob:?}: {error}"))?;
        }
    }
    Ok(())
}

impl Compiled {
    pub(super) fn new(rule: Rule, literals: &Literals) -> Self {
        let numbers = |words: &[String]| -> Vec<u16> {
            words.iter().filter_map(|word| literals.number(&word.to_ascii_lowercase())).collect()
        };
        let named = |selection: fn(&Rule, &Selection) -> Vec<String>| -> BTreeMap<String, Vec<u16>> {
            rule.sel.iter().map(|(name, sel)| (name.clone(), numbers(&selection(&rule, sel)))).collect()
        };
        Self {
            keywords: named(|rule, selection| rule.keywords_of(selection).to_vec()),
            context: named(|_, selection| {
                selection.context.as_ref().map(|context| context.words.clone()).unwrap_or_default()
            }),
            patterns: rule
                .sel
                .iter()
                .map(|(name, selection)| (name.clone(), Pattern::new(&selection.regex)))
                .collect(),
            allow: rule.allow.iter().map(|allow| Pattern::new(&allow.regex)).collect(),
            rule,
        }
    }

    /// Asks the rule of a file, or of the commit where there is none.
    pub(super) fn find(&self, commit: &Commit<'_>, view: Option<&FileView<'_>>) -> Option<Found> {
        if self.rule.status == Status::Deprecated || self.rule.tags_in(commit.class).is_none() {
            return None;
        }
        let when = &self.rule.when;
        let mut held = Vec::new();
        for name in &when.all {
            held.push(self.holds(name, commit, view)?);
        }
        if !when.any.is_empty() {
            let before = held.len();
            held.extend(when.any.iter().filter_map(|name| self.holds(name, commit, view)));
            if held.len() - before < when.at_least.unwrap_or(1) {
                return None;
            }
        }
        if when.none.iter().any(|name| self.holds(name, commit, view).is_some()) {
            return None;
        }
        let boost: f64 = when
            .boost
            .iter()
            .filter(|(name, _)| self.holds(name, commit, view).is_some())
            .map(|(_, points)| points)
            .sum();
        let factor = held.iter().map(|held| held.factor).fold(1.0, f64::min);
        let weight = if self.rule.status == Status::Stable { self.rule.weight + boost } else { 0.0 };
        // What says most: a line, then the message, then the path.
        let rank = |held: &Held| match held.side {
            Side::Added | Side::Removed => 0,
            Side::Message => 1,
            Side::Path => 2,
            Side::Commit => 3,
        };
        let first = held.into_iter().min_by_key(rank)?;
        Some(Found {
            side: first.side,
            line: first.line,
            count: first.count,
            points: weight * factor * self.class_factor(commit.class),
            lines: first.lines,
        })
    }

    fn class_factor(&self, class: Class) -> f64 {
        let factors = &self.rule.when.by_class;
        let like = if class == Class::Unknown { Class::Ehr } else { class };
        factors.get(&class).or_else(|| factors.get(&like)).copied().unwrap_or(1.0)
    }

    fn holds(&self, name: &str, commit: &Commit<'_>, view: Option<&FileView<'_>>) -> Option<Held> {
        let selection = self.rule.sel.get(name)?;
        let pattern = self.patterns.get(name)?;
        let facts = commit.facts;
        let once = |side, holds: bool| {
            holds.then_some(Held { side, line: None, count: 1, factor: 1.0, lines: Vec::new() })
        };
        match selection.subject {
            Subject::Added | Subject::NetAdded | Subject::Removed | Subject::NetRemoved => {
                self.text_holds(name, selection, pattern, commit, view?)
            }
            Subject::Message => {
                let words = self.rule.keywords_of(selection);
                let lower = facts.message.to_ascii_lowercase();
                if !words.iter().any(|word| lower.contains(&word.to_ascii_lowercase())) {
                    return None;
                }
                message_holds(selection, pattern.get()?, &facts.message)
            }
            Subject::Path => {
                let file = view?.file;
                let fits = std::iter::once(&file.path).chain(&file.old_path).any(|path| {
                    any_glob(&selection.glob, path)
                        || (!selection.regex.is_empty()
                            && pattern.get().is_some_and(|regex| regex.is_match(path.as_bytes())))
                });
                once(Side::Path, fits)
            }
            Subject::Kind => {
                let kind = serde_json::to_value(view?.file.kind).ok()?;
                once(Side::Path, selection.kind.iter().any(|wanted| kind.as_str() == Some(wanted)))
            }
            Subject::Mode => {
                let file = view?.file;
                let modes = format!("{:06o} {:06o}", file.old_mode, file.new_mode);
                once(Side::Path, file.old_mode != file.new_mode && pattern.get()?.is_match(modes.as_bytes()))
            }
            Subject::Author => {
                let Person { name, email } = &facts.author;
                once(Side::Commit, pattern.get()?.is_match(format!("{name} <{email}>").as_bytes()))
            }
            Subject::Trailer => {
                let regex = pattern.get()?;
                once(Side::Message, trailers(&facts.message).any(|line| regex.is_match(line.as_bytes())))
            }
            Subject::Size => {
                let changed: u64 = facts
                    .judged()
                    .iter()
                    .map(|file| u64::from(file.insertions) + u64::from(file.deletions))
                    .sum();
                once(Side::Commit, changed >= u64::from(selection.min_count?))
            }
            // Refused when loading.
            Subject::Manifest => None,
        }
    }

    fn text_holds(
        &self,
        name: &str,
        selection: &Selection,
        pattern: &Pattern,
        commit: &Commit<'_>,
        view: &FileView<'_>,
    ) -> Option<Held> {
        let added = matches!(selection.subject, Subject::Added | Subject::NetAdded);
        let net = matches!(selection.subject, Subject::NetAdded | Subject::NetRemoved);
        let (side, hits) = if added {
            (&view.file.text.added, &view.added)
        } else {
            (&view.file.text.removed, &view.removed)
        };
        let keywords = self.keywords.get(name)?;
        let near = selection
            .context
            .as_ref()
            .map(|context| (context, hits.word_lines(&self.context[name], view.literals, &side.text)));
        let candidates = match &near {
            _ if !self.rule.keywords_of(selection).is_empty() => Candidates::Lines(hits.lines(keywords)),
            Some((context, words)) if context.without == Without::Drop => {
                Candidates::Lines(lines_near(side, words, context.lines))
            }
            _ => Candidates::All,
        };
        if side.is_empty() || matches!(&candidates, Candidates::Lines(lines) if lines.is_empty()) {
            return None;
        }
        let regex = pattern.get()?;
        let mut found = Vec::new();
        let mut factor: f64 = 0.0;
        candidates.each(side, regex, |index, line| {
            if (selection.code && is_comment(line))
                || !line_matches(regex, selection, line)
                || (net && commit.moves.moved(line, added))
            {
                return;
            }
            let worth = match &near {
                Some((context, words)) if !is_near(side, words, index, context.lines) => {
                    match context.without {
                        Without::Drop => return,
                        Without::Divided(number) => 1.0 / number,
                    }
                }
                _ => 1.0,
            };
            factor = factor.max(worth);
            found.push(index);
        });
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        if count < selection.min_count.unwrap_or(1) {
            return None;
        }
        let line = found.first().and_then(|index| side.lines.get(*index)).map(|line| line.number);
        Some(Held {
            side: if added { Side::Added } else { Side::Removed },
            line,
            count,
            factor,
            lines: found,
        })
    }

    /// The allowance that covers every hit of a finding, if it has not run out on the commit's day.
    pub(super) fn allowed(&self, file: Option<&ChangedFile>, found: &Found, time: i64) -> Option<Allowed> {
        let day = jiff::Timestamp::from_second(time).ok()?.strftime("%Y-%m-%d").to_string();
        let covers = |allow: &Allow, pattern: &Pattern| {
            let path = allow.path.is_empty() || file.is_some_and(|file| any_glob(&allow.path, &file.path));
            let lines = allow.regex.is_empty() || {
                let side =
                    file.map(
                        |file| if found.side == Side::Added { &file.text.added } else { &file.text.removed },
                    );
                side.zip(pattern.get()).is_some_and(|(side, regex)| {
                    !found.lines.is_empty()
                        && found.lines.iter().all(|index| regex.is_match(line_of(side, *index)))
                })
            };
            path && lines && day <= allow.until
        };
        let (allow, _) =
            self.rule.allow.iter().zip(&self.allow).find(|(allow, pattern)| covers(allow, pattern))?;
        Some(Allowed { reason: allow.reason.clone(), owner: allow.owner.clone(), until: allow.until.clone() })
    }
}

/// The lines that a regular expression has to be tried on.
enum Candidates {
    All,
    Lines(Vec<usize>),
}

impl Candidates {
    fn each(&self, side: &SideText, regex: &Regex, mut line: impl FnMut(usize, &[u8])) {
        match self {
            Self::Lines(indices) => {
                for index in indices {
                    line(*index, line_of(side, *index));
                }
            }
            // One search over the whole side finds the few lines that are worth a look of their own.
            Self::All => {
                let mut from = 0;
                while let Some(hit) =
                    (from < side.text.len()).then(|| regex.find_at(&side.text, from)).flatten()
                {
                    let index = side
                        .lines
                        .partition_point(|line| line.offset as usize <= hit.start())
                        .saturating_sub(1);
                    line(index, line_of(side, index));
                    match side.lines.get(index + 1) {
                        Some(next) => from = next.offset as usize,
                        None => break,
                    }
                }
            }
        }
    }
}

fn line_matches(regex: &Regex, selection: &Selection, line: &[u8]) -> bool {
    if selection.group.is_none() && selection.validator.is_none() && selection.entropy_min.is_none() {
        return regex.is_match(line);
    }
    let group = selection.group.unwrap_or(0);
    regex.captures_iter(line).filter_map(|captures| captures.get(group)).any(|candidate| {
        let candidate = candidate.as_bytes();
        selection.validator.as_ref().is_none_or(|name| validators::passes(name, candidate))
            && selection.entropy_min.is_none_or(|bits| validators::entropy(candidate) >= bits)
    })
}

fn message_holds(selection: &Selection, regex: &Regex, message: &str) -> Option<Held> {
    let mut hits =
        message.lines().zip(1_u32..).filter(|(line, _)| line_matches(regex, selection, line.as_bytes()));
    let (_, line) = hits.next()?;
    let count = u32::try_from(hits.count()).unwrap_or(u32::MAX).saturating_add(1);
    let enough = count >= selection.min_count.unwrap_or(1);
    enough.then_some(Held { side: Side::Message, line: Some(line), count, factor: 1.0, lines: Vec::new() })
}

/// The `Key: value` lines of the last paragraph.
fn trailers(message: &str) -> impl Iterator<Item = &str> {
    let last = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
    last.lines().filter(|line| {
        line.split_once(": ").is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    })
}

fn any_glob(globs: &[String], path: &RepoPath) -> bool {
    globs.iter().any(|glob| fast_glob::glob_match(glob, path.as_bytes()))
}

/// Indices of the lines at most `distance` line numbers from one of `words` (ascending).
fn lines_near(side: &SideText, words: &[usize], distance: u32) -> Vec<usize> {
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

fn is_near(side: &SideText, words: &[usize], index: usize, distance: u32) -> bool {
    let number = |index: usize| side.lines.get(index).map_or(0, |line| line.number);
    let after = words.partition_point(|word| *word < index);
    let behind = words.get(after).is_some_and(|word| number(*word) - number(index) <= distance);
    let before = after.checked_sub(1).and_then(|at| words.get(at));
    behind || before.is_some_and(|word| number(index) - number(*word) <= distance)
}
