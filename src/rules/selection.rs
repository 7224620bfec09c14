//! One rule made ready: its selections asked of one file, its allowances, its points.

use std::cell::{OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;

use super::carried::{self, Carried};
use super::components::{self, Packages};
use super::lines::{ANYTHING, Keyword, index_at, is_comment, is_near, line_of, lines_near};
use super::matcher::FileView;
use super::moves::Moves;
use super::pattern::{Finder, Glob, Pattern};
use super::rule::{self, Class, Rule, Selection, Subject, Without};
use super::{RuleSet, Side, validators};
use crate::facts::{CommitFacts, FileKind, Person, SideText, Status};
use crate::literals::Literals;

/// What is the same for all files of a commit.
pub(super) struct Commit<'a> {
    pub(super) facts: &'a CommitFacts,
    pub(super) class: Class,
    pub(super) moves: Moves<'a>,
    pub(super) views: &'a [FileView<'a>],
    /// What the repository says of itself.
    pub(super) carried: Carried,
    /// What names a rule.
    pub(super) rules: &'a RuleSet,
    /// What was found, for the rules that ask for it.
    pub(super) found: Vec<String>,
    /// Whether any added line holds an allowance.
    pub(super) inline: OnceCell<bool>,
    /// What [`Compiled::balance`] counted, by selection.
    pub(super) balances: RefCell<HashMap<*const Selection, Ordering>>,
}

impl Commit<'_> {
    /// The class of a file: its item's where that asks more than the repository's.
    fn class_of(&self, view: Option<&FileView<'_>>) -> Class {
        let item = view.and_then(|view| self.carried.item(&view.file.path)).and_then(|item| item.class);
        item.filter(|class| class.demands() > self.class.demands()).unwrap_or(self.class)
    }

    /// The day of the commit in UTC.
    pub(super) fn day(&self) -> String {
        let time =
            jiff::Timestamp::from_second(self.facts.commit_time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.strftime("%Y-%m-%d").to_string()
    }

    /// Whether any added line holds an allowance: looked for once, and only where something was found.
    pub(super) fn has_inline(&self) -> bool {
        *self.inline.get_or_init(|| {
            let texts = self.facts.judged().iter().map(|file| &file.text.added.text);
            texts.into_iter().any(|text| memchr::memmem::find(text, carried::INLINE).is_some())
        })
    }

    /// Whether the line's allowance allows nothing: incomplete, run out, or for a rule that is not there.
    fn is_void(&self, line: &[u8]) -> bool {
        carried::inline(line).is_some_and(|(rule, allowed)| {
            allowed.is_none_or(|allowed| allowed.until < self.day())
                || !self
                    .rules
                    .known()
                    .iter()
                    .map(|pack| &pack.rules)
                    .chain([&self.carried.rules])
                    .any(|ids| ids.contains(&rule))
        })
    }
}

/// A rule that holds for a file, or for the commit.
pub(super) struct Found {
    pub(super) side: Side,
    pub(super) line: Option<u32>,
    pub(super) count: u32,
    /// Points before the further files' share and the caps.
    pub(super) points: f64,
    /// The class that it was judged in.
    pub(super) class: Class,
    /// Indices of the hit lines, where the side is text.
    pub(super) lines: Vec<usize>,
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
    /// In the order of the rule's selections.
    asked: Vec<Asked>,
    /// Those of all selections, each once: selections of one rule often share them.
    patterns: Vec<Pattern>,
    pub(super) allow: Vec<Pattern>,
}

/// What is needed to ask a selection.
struct Asked {
    keywords: Vec<Keyword>,
    context: Vec<u16>,
    kinds: Vec<FileKind>,
    globs: Vec<Glob>,
    /// Its place among the patterns of the rule.
    pattern: usize,
    /// For a selection of components.
    packages: Option<Packages>,
}

impl Compiled {
    pub(super) fn new(rule: Rule, literals: &Literals) -> Self {
        let numbers = |words: &[String]| -> Vec<u16> {
            words.iter().filter_map(|word| literals.number(&word.to_ascii_lowercase())).collect()
        };
        let mut sources: Vec<&[String]> = Vec::new();
        let mut patterns: Vec<Pattern> = Vec::new();
        let asked = rule.sel.values().map(|selection| {
            let pattern = sources.iter().position(|source| *source == selection.regex);
            let pattern = pattern.unwrap_or_else(|| {
                sources.push(&selection.regex);
                patterns.push(Pattern::new(&selection.regex));
                sources.len() - 1
            });
            let packages = || Packages::new(&selection.package);
            Asked {
                keywords: keywords(rule.keywords_of(selection), &patterns[pattern], literals),
                context: selection
                    .context
                    .as_ref()
                    .map(|context| numbers(&context.words))
                    .unwrap_or_default(),
                kinds: kinds(selection),
                globs: selection.glob.iter().map(|glob| Glob::new(glob)).collect(),
                pattern,
                packages: (selection.subject == Subject::Manifest).then(packages),
            }
        });
        Self {
            asked: asked.collect(),
            patterns,
            allow: rule.allow.iter().map(|allow| Pattern::new(&allow.regex)).collect(),
            rule,
        }
    }

    /// A selection with what is needed to ask it, and its pattern.
    fn asked(&self, name: &str) -> Option<(&Selection, &Asked, &Pattern)> {
        let mut all = self.rule.sel.iter().zip(&self.asked);
        let ((_, selection), asked) = all.find(|((other, _), _)| *other == name)?;
        Some((selection, asked, self.patterns.get(asked.pattern)?))
    }

    /// Asks the rule of a file, or of the commit where there is none.
    pub(super) fn find(&self, commit: &Commit<'_>, view: Option<&FileView<'_>>) -> Option<Found> {
        let class = if commit.carried.items.is_empty() { commit.class } else { commit.class_of(view) };
        if self.rule.status == rule::Status::Deprecated || !self.rule.is_asked_in(class) {
            return None;
        }
        let when = &self.rule.when;
        // Path and kind are asked before any line is: they spare most of the regular expressions.
        let holds_without_text = |name: &String| {
            let plain = self.rule.sel.get(name).is_some_and(|selection| selection.subject.is_file());
            plain.then(|| self.holds(name, commit, view).is_some())
        };
        if when.all.iter().any(|name| holds_without_text(name) == Some(false))
            || when.none.iter().any(|name| holds_without_text(name) == Some(true))
        {
            return None;
        }
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
        let weight = if self.rule.status == rule::Status::Stable { self.rule.weight + boost } else { 0.0 };
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
            points: weight * factor * self.class_factor(class),
            class,
            lines: first.lines,
        })
    }

    fn class_factor(&self, class: Class) -> f64 {
        let factors = &self.rule.when.by_class;
        let like = if class == Class::Unknown { Class::Ehr } else { class };
        factors.get(&class).or_else(|| factors.get(&like)).copied().unwrap_or(1.0)
    }

    fn holds(&self, name: &str, commit: &Commit<'_>, view: Option<&FileView<'_>>) -> Option<Held> {
        let (selection, asked, pattern) = self.asked(name)?;
        let facts = commit.facts;
        let once = |side, holds: bool| {
            holds.then_some(Held { side, line: None, count: 1, factor: 1.0, lines: Vec::new() })
        };
        match selection.subject {
            Subject::Added | Subject::NetAdded | Subject::Removed | Subject::NetRemoved => {
                self.text_holds(selection, asked, pattern, commit, view?)
            }
            Subject::Message => {
                let words = self.rule.keywords_of(selection);
                let lower = facts.message.to_ascii_lowercase();
                if !words.iter().any(|word| lower.contains(&word.to_ascii_lowercase())) {
                    return None;
                }
                message_holds(selection, &mut pattern.finder()?, &facts.message)
            }
            Subject::Path => {
                let file = view?.file;
                let fits = std::iter::once(&file.path).chain(&file.old_path).any(|path| {
                    asked.globs.iter().any(|glob| glob.fits(path.as_bytes()))
                        || (!selection.regex.is_empty() && pattern.is_match(path.as_bytes()))
                });
                once(Side::Path, fits)
            }
            Subject::Kind => once(Side::Path, asked.kinds.contains(&view?.file.kind)),
            Subject::Mode => {
                let file = view?.file;
                let modes = format!("{:06o} {:06o}", file.old_mode, file.new_mode);
                once(Side::Path, file.old_mode != file.new_mode && pattern.is_match(modes.as_bytes()))
            }
            Subject::Author => {
                let Person { name, email } = &facts.author;
                once(Side::Commit, pattern.is_match(format!("{name} <{email}>").as_bytes()))
            }
            Subject::Trailer => {
                once(Side::Message, trailers(&facts.message).any(|line| pattern.is_match(line.as_bytes())))
            }
            Subject::Found => {
                once(Side::Commit, commit.found.iter().any(|line| pattern.is_match(line.as_bytes())))
            }
            Subject::Item => {
                let item = commit.carried.item(&view?.file.path)?.text();
                once(Side::Path, pattern.is_match(item.as_bytes()))
            }
            Subject::Size => {
                let changed: u64 = facts
                    .judged()
                    .iter()
                    .map(|file| u64::from(file.insertions) + u64::from(file.deletions))
                    .sum();
                once(Side::Commit, changed >= u64::from(selection.min_count?))
            }
            Subject::Manifest => {
                let count = components::changed(selection, asked.packages.as_ref()?, view?.file)?;
                Some(Held { side: Side::Path, line: None, count, factor: 1.0, lines: Vec::new() })
            }
        }
    }

    fn text_holds(
        &self,
        selection: &Selection,
        asked: &Asked,
        pattern: &Pattern,
        commit: &Commit<'_>,
        view: &FileView<'_>,
    ) -> Option<Held> {
        let added = matches!(selection.subject, Subject::Added | Subject::NetAdded);
        let net = matches!(selection.subject, Subject::NetAdded | Subject::NetRemoved);
        let (side, literals) = view.side(added);
        let mut hits = self.hits(selection, asked, pattern, view, added)?;
        if net {
            hits.retain(|(index, _)| {
                let word = literals.word_in(&asked.keywords, side, *index);
                !commit.moves.moved(line_of(side, *index), word, added)
            });
        }
        if selection.validator.as_deref() == Some("void_allowance") {
            hits.retain(|(index, _)| commit.is_void(line_of(side, *index)));
        }
        let count = u32::try_from(hits.len()).unwrap_or(u32::MAX);
        if count < selection.min_count.unwrap_or(1) {
            return None;
        }
        if selection.fewer || selection.more {
            let wanted = if selection.more { Ordering::Greater } else { Ordering::Less };
            if view.file.status == Status::Deleted
                || self.balance(selection, asked, pattern, commit) != wanted
            {
                return None;
            }
        }
        let factor = hits.iter().map(|(_, worth)| *worth).fold(0.0, f64::max);
        let lines: Vec<usize> = hits.into_iter().map(|(index, _)| index).collect();
        let line = lines.first().and_then(|index| side.lines.get(*index)).map(|line| line.number);
        Some(Held { side: if added { Side::Added } else { Side::Removed }, line, count, factor, lines })
    }

    /// How many lines all files of the commit, but for deleted ones, gained against how many they lost. Counted on
    /// the first question: every file asks.
    fn balance(
        &self,
        selection: &Selection,
        asked: &Asked,
        pattern: &Pattern,
        commit: &Commit<'_>,
    ) -> Ordering {
        let key = std::ptr::from_ref(selection);
        if let Some(known) = commit.balances.borrow().get(&key) {
            return *known;
        }
        let all = |added| -> usize {
            let views = commit.views.iter().filter(|view| view.file.status != Status::Deleted);
            views
                .filter_map(|view| self.hits(selection, asked, pattern, view, added))
                .map(|hits| hits.len())
                .sum()
        };
        let balance = all(true).cmp(&all(false));
        commit.balances.borrow_mut().insert(key, balance);
        balance
    }

    /// The lines of one side that match, with what each is worth; none where nothing can.
    fn hits(
        &self,
        selection: &Selection,
        asked: &Asked,
        pattern: &Pattern,
        view: &FileView<'_>,
        added: bool,
    ) -> Option<Vec<(usize, f64)>> {
        let (side, hits) = view.side(added);
        let near = selection
            .context
            .as_ref()
            .map(|context| (context, hits.word_lines(&asked.context, view.literals, side)));
        let gated = !self.rule.keywords_of(selection).is_empty();
        let candidates = match &near {
            _ if gated => Some(hits.lines(&asked.keywords, side)),
            Some((context, words)) if context.without == Without::Drop => {
                Some(lines_near(side, words, context.lines))
            }
            _ => None,
        };
        if side.is_empty() || candidates.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let mut finder = if selection.regex.is_empty() { None } else { Some(pattern.finder()?) };
        let worth = |index: usize| match &near {
            Some((context, words)) if !is_near(side, words, index, context.lines) => match context.without {
                Without::Drop => None,
                Without::Divided(number) => Some(1.0 / number),
            },
            _ => Some(1.0),
        };
        let mut found = Vec::new();
        each_candidate(candidates, side, finder.as_mut(), |index, line, finder| {
            let wanted = !(selection.code && is_comment(line))
                && match finder {
                    Some(finder) => line_matches(finder, selection, line),
                    None => says_something(line),
                };
            if wanted && let Some(worth) = worth(index) {
                found.push((index, worth));
            }
        });
        Some(found)
    }
}

/// Keywords with what stands beside each wherever the pattern matches.
fn keywords(words: &[String], pattern: &Pattern, literals: &Literals) -> Vec<Keyword> {
    let beside = pattern.beside(words);
    let keyword = |(at, word): (usize, &String)| {
        let beside = beside.map_or(ANYTHING, |beside| beside[at]);
        let number = literals.number(&word.to_ascii_lowercase())?;
        let whole = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        Some(Keyword { number, len: word.len(), whole, beside })
    };
    words.iter().enumerate().filter_map(keyword).collect()
}

/// The kinds that a selection names; loading has refused other names.
fn kinds(selection: &Selection) -> Vec<FileKind> {
    let read = |name: &String| {
        let name: StrDeserializer<'_, serde::de::value::Error> = name.as_str().into_deserializer();
        FileKind::deserialize(name).ok()
    };
    selection.kind.iter().filter_map(read).collect()
}

/// Calls `line` with the lines of `candidates`, else with all that the pattern may match.
fn each_candidate(
    candidates: Option<Vec<usize>>,
    side: &SideText,
    mut finder: Option<&mut Finder<'_>>,
    mut line: impl FnMut(usize, &[u8], Option<&mut Finder<'_>>),
) {
    let every = || (0..side.lines.len()).collect();
    if let Some(indices) = candidates.or_else(|| finder.is_none().then(every)) {
        for index in indices {
            line(index, line_of(side, index), finder.as_deref_mut());
        }
        return;
    }
    let Some(finder) = finder else { return };
    // One search over the whole side finds the few lines that are worth a look of their own. A line that matches by
    // itself ends no match later than at its own end, so none is passed over.
    let mut from = 0;
    while let Some(end) = finder.end(&side.text, from) {
        let index = index_at(&side.lines, end);
        line(index, line_of(side, index), Some(&mut *finder));
        match side.lines.get(index + 1) {
            Some(next) => from = next.offset as usize,
            None => break,
        }
    }
}

/// Whether there is more in a line than blanks and punctuation.
fn says_something(line: &[u8]) -> bool {
    line.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())
}

fn line_matches(finder: &mut Finder<'_>, selection: &Selection, line: &[u8]) -> bool {
    if selection.group.is_none() && selection.validator.is_none() && selection.entropy_min.is_none() {
        return finder.is_match(line);
    }
    finder.groups(line, selection.group.unwrap_or(0)).any(|candidate| {
        selection.validator.as_ref().is_none_or(|name| validators::passes(name, candidate))
            && selection.entropy_min.is_none_or(|bits| validators::entropy(candidate) >= bits)
    })
}

fn message_holds(selection: &Selection, finder: &mut Finder<'_>, message: &str) -> Option<Held> {
    let mut hits =
        message.lines().zip(1_u32..).filter(|(line, _)| line_matches(finder, selection, line.as_bytes()));
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
