//! Judges one commit by all rules.
//!
//! Literals first (`index`), in one pass over paths and changed lines; a rule is parsed and its regular
//! expressions are compiled when one of its literals occurs, and never again in the process. A regular
//! expression sees one line at a time, and where its selection has keywords only the lines that hold one.
//!
//! The engine is shared by threads; it changes only by filling its caches.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::carried::Carried;
use super::index::{Entry, Index, numbers};
use super::lines::Hits;
use super::moves::Moves;
use super::rule::{Class, Severity, Status};
use super::selection::{Commit, Compiled, Found};
use super::{Allowed, Finding, RuleSet, Side, Verdict};
use crate::facts::{ChangedFile, CommitFacts, SideText};
use crate::literals::Literals;

/// Findings of one commit beyond this are left out, the least important first; tags and points count all.
pub(super) const FINDINGS_LIMIT: usize = 200;
/// The sum of a commit's points.
pub(super) const POINTS_LIMIT: f64 = 100.0;
/// What rules of low and medium severity can give together: many small signs in one commit are common, and
/// do not make it as grave as one removed safeguard.
const MINOR_LIMIT: f64 = 24.0;
/// What the message alone can give.
const MESSAGE_LIMIT: f64 = 5.0;
/// Further files that count a tenth each.
const FURTHER_FILES: usize = 3;

/// Per rule, where it holds.
type Hitlist<'a> = BTreeMap<u16, Vec<(Option<&'a ChangedFile>, Found)>>;

/// Asks a rule of a file, or of the commit.
pub(super) type Ask<'a> = dyn FnMut(&Compiled, &Commit<'_>, Option<&FileView<'_>>) -> Option<Found> + 'a;

/// All rules, ready to be asked.
pub(super) struct Engine {
    gates: Gates,
    rules: Vec<super::Slot>,
}

/// What makes a rule worth asking: an [`Index`], ready to be searched.
pub(super) struct Gates {
    pub(super) text: Literals,
    /// By the number of the literal, the rules that it wakes.
    pub(super) text_rules: Cow<'static, [Cow<'static, str>]>,
    pub(super) path: Literals,
    pub(super) path_rules: Cow<'static, [Cow<'static, str>]>,
    pub(super) message: Cow<'static, [Entry]>,
    pub(super) always: Cow<'static, [u16]>,
    pub(super) items: Cow<'static, [u16]>,
    pub(super) commit: Cow<'static, [u16]>,
}

impl From<Index> for Gates {
    fn from(index: Index) -> Self {
        let (text, text_rules): (_, Vec<_>) = index.text.into_iter().unzip();
        let (path, path_rules): (_, Vec<_>) = index.path.into_iter().unzip();
        Self {
            text: Literals::new(text),
            text_rules: text_rules.into(),
            path: Literals::new(path),
            path_rules: path_rules.into(),
            message: index.message.into(),
            always: index.always.into(),
            items: index.items.into(),
            commit: index.commit.into(),
        }
    }
}

/// One side or both of a file, with the literals found there.
pub(super) struct FileView<'a> {
    pub(super) file: &'a ChangedFile,
    pub(super) added: Hits,
    pub(super) removed: Hits,
    pub(super) literals: &'a Literals,
}

impl FileView<'_> {
    /// The added side, else the removed one.
    pub(super) fn side(&self, added: bool) -> (&SideText, &Hits) {
        if added { (&self.file.text.added, &self.added) } else { (&self.file.text.removed, &self.removed) }
    }
}

impl Engine {
    /// Takes the rules in the order by which the gates number them.
    pub(super) fn new(gates: Gates, rules: Vec<super::Slot>) -> Self {
        Self { gates, rules }
    }

    /// Judges a commit by what changed in `files`. `of` is what names rules and what the repository says of itself;
    /// `ask` asks one rule, and may measure it.
    pub(super) fn judge_with(
        &self,
        files: &[ChangedFile],
        facts: &CommitFacts,
        class: Class,
        of: (&RuleSet, Carried),
        ask: &mut Ask<'_>,
    ) -> Verdict {
        let (rules, carried) = of;
        let views: Vec<FileView<'_>> = files
            .iter()
            .map(|file| FileView {
                file,
                added: Hits::find(&self.gates.text, &file.text.added),
                removed: Hits::find(&self.gates.text, &file.text.removed),
                literals: &self.gates.text,
            })
            .collect();
        let mut commit = Commit {
            facts,
            class,
            moves: Moves::new(&views),
            views: &views,
            carried,
            rules,
            found: Vec::new(),
            inline: OnceCell::new(),
            balances: RefCell::default(),
        };
        let mut found: Hitlist<'_> = BTreeMap::new();
        let mut after = Vec::new();
        for number in self.woken_by_message(&facts.message) {
            if self.rule(number).is_some_and(|rule| rule.rule.asks_findings()) {
                after.push(number);
            } else if let Some(hit) = self.rule(number).and_then(|rule| ask(rule, &commit, None)) {
                found.entry(number).or_default().push((None, hit));
            }
        }
        let mut woken = vec![false; self.rules.len()];
        for view in &views {
            for number in self.woken(view, &mut woken, !commit.carried.items.is_empty()) {
                if let Some(hit) = self.rule(number).and_then(|rule| ask(rule, &commit, Some(view))) {
                    found.entry(number).or_default().push((Some(view.file), hit));
                }
            }
        }
        if !after.is_empty() {
            commit.found = self.lines_of(&found, &commit);
            for number in after {
                if let Some(hit) = self.rule(number).and_then(|rule| ask(rule, &commit, None)) {
                    found.entry(number).or_default().push((None, hit));
                }
            }
        }
        self.verdict(found, &commit)
    }

    /// What was found, as `found` selections read it.
    fn lines_of(&self, found: &Hitlist<'_>, commit: &Commit<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, hits) in found {
            let Some(rule) = self.rule(*number).filter(|rule| rule.rule.status == Status::Stable) else {
                continue;
            };
            for (file, hit) in hits {
                let Some(tags) = rule.rule.tags_in(hit.class) else { continue };
                if rule.allowed(*file, hit, commit).is_none() {
                    let tags: String = tags.keys().map(|tag| format!(" {tag}")).collect();
                    lines.push(format!("{} {}{tags}", rule.rule.id, rule.rule.severity));
                }
            }
        }
        lines.sort();
        lines.dedup();
        lines
    }

    fn rule(&self, number: u16) -> Option<&Compiled> {
        self.rules.get(usize::from(number))?.compiled(&self.gates.text)
    }

    fn woken_by_message(&self, message: &str) -> BTreeSet<u16> {
        let message = message.to_ascii_lowercase();
        let spoken = self.gates.message.iter().filter(|(literal, _)| message.contains(literal.as_ref()));
        spoken.flat_map(|(_, rules)| numbers(rules)).chain(self.gates.commit.iter().copied()).collect()
    }

    /// The rules worth asking of a file, ascending.
    fn woken(&self, view: &FileView<'_>, woken: &mut [bool], items: bool) -> Vec<u16> {
        let mut rules = self.gates.always.to_vec();
        if items {
            rules.extend(self.gates.items.iter());
        }
        let mut wake = |entry: &str| {
            for number in numbers(entry) {
                if !std::mem::replace(&mut woken[usize::from(number)], true) {
                    rules.push(number);
                }
            }
        };
        for path in std::iter::once(&view.file.path).chain(&view.file.old_path) {
            self.gates
                .path
                .search(path.as_bytes(), |literal, _| wake(&self.gates.path_rules[usize::from(literal)]));
        }
        for literal in view.added.literals().chain(view.removed.literals()) {
            wake(&self.gates.text_rules[usize::from(literal)]);
        }
        for number in &rules {
            woken[usize::from(*number)] = false;
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Findings, points and tags from what was found.
    fn verdict(&self, found: Hitlist<'_>, commit: &Commit<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let (mut high, mut minor, mut message_left) = (0.0, 0.0, MESSAGE_LIMIT);
        for (number, hits) in found {
            let Some(rule) = self.rule(number) else { continue };
            let mut hits: Vec<(Option<Allowed>, f64, Option<&ChangedFile>, Found)> = hits
                .into_iter()
                .map(|(file, hit)| {
                    let allowed = rule.allowed(file, &hit, commit);
                    let points = if allowed.is_some() { 0.0 } else { hit.points };
                    (allowed, points, file, hit)
                })
                .collect();
            // The dearest file counts in full, whatever its place in the tree.
            hits.sort_by(|a, b| b.1.total_cmp(&a.1));
            for (place, (allowed, points, file, hit)) in hits.into_iter().enumerate() {
                let Some(tags) = rule.rule.tags_in(hit.class) else { continue };
                let mut points = match place {
                    0 => points,
                    1..=FURTHER_FILES => points / 10.0,
                    _ => 0.0,
                };
                if file.is_none() && hit.side == Side::Message {
                    points = points.min(message_left);
                    message_left -= points;
                }
                let points = (points * 100.0).round() / 100.0;
                *if rule.rule.severity == Severity::High { &mut high } else { &mut minor } += points;
                let counts = allowed.is_none() && rule.rule.status == Status::Stable;
                if counts {
                    verdict.tags.extend(tags.keys().map(|tag| (*tag).to_owned()));
                }
                let citations: BTreeSet<String> =
                    tags.values().flat_map(|citations| citations.iter().cloned()).collect();
                verdict.findings.push(Finding {
                    rule: rule.rule.id.clone(),
                    version: rule.rule.version,
                    severity: rule.rule.severity,
                    tags: tags.keys().map(|tag| (*tag).to_owned()).collect(),
                    citations: citations.into_iter().collect(),
                    path: file.map(|file| file.path.display()),
                    side: Some(hit.side),
                    line: hit.line,
                    count: hit.count,
                    points,
                    allowed,
                });
            }
        }
        let points: f64 = high + minor.min(MINOR_LIMIT);
        verdict.points = ((points * 100.0).round() / 100.0).min(POINTS_LIMIT);
        verdict.findings.sort_by(|a, b| {
            b.points.total_cmp(&a.points).then_with(|| (&a.rule, &a.path).cmp(&(&b.rule, &b.path)))
        });
        verdict.findings.truncate(FINDINGS_LIMIT);
        verdict
    }
}
