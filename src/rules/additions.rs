//! Rules and the ticket pattern that a repository carries in its `.gitops-agent.toml`.
//!
//! They are somebody else's input and may only add. A carried rule is a rule of format 1 whose id begins with
//! `carried.`, so that every finding of it shows where it comes from. It is judged apart, after the packs in force and
//! unseen by them: what they find, their points and their tags are the same with it and without it. Its findings come
//! behind theirs, where the limit of findings cuts first, and together carried rules give 24 points at most.
//!
//! Limits: [`RULES_LIMIT`] rules, [`CITATIONS_LIMIT`] citations, [`CARRIED_REGEX`] bytes a compiled pattern, and the
//! changed lines of the first files of a commit, [`TEXT_LIMIT`] bytes of them: the worst that a hostile file then
//! costs a hook is seconds, and an honest one microseconds. A rule that is not exactly the format costs only itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::value::MapDeserializer;
use toml::Spanned;

use super::carried::Carried;
use super::pack::{Citation, Known, Pack, PackId, Place, RuleError};
use super::pattern;
use super::rule::{Rule, Subject};
use super::strict::check_rule;
use super::{CARRIED_LIMIT, RuleSet, Verdict};
use crate::facts::{ChangedFile, CommitFacts};

/// How the id of every carried rule begins, and of no other.
pub(super) const PREFIX: &str = "carried.";
/// The file, as errors name it.
const FILE: &str = ".gitops-agent.toml";
/// Rules that are read.
const RULES_LIMIT: usize = 20;
/// Citations that are read.
const CITATIONS_LIMIT: usize = 50;
/// Bytes of a tag, an id, or the id of a citation.
const NAME_LIMIT: usize = 64;
/// Memory of one compiled regular expression, in bytes.
const CARRIED_REGEX: usize = 16 << 10;
/// Changed text that carried rules see of one commit, in bytes.
const TEXT_LIMIT: usize = 256 << 10;
/// Points that carried rules give together.
const POINTS_LIMIT: f64 = 24.0;
/// Bytes of a ticket pattern, and of what it may find.
const TICKET_LIMIT: usize = 200;
/// Contents whose rules are kept ready. A history has few, one after the other.
const CACHE: usize = 16;

/// The carried rules that were met before, by the bytes of the file.
#[derive(Default)]
pub(super) struct Cache(Mutex<BTreeMap<Vec<u8>, Option<Arc<RuleSet>>>>);

impl Cache {
    /// The rules of a carried file, `None` where none of them can be used.
    pub(super) fn get(&self, bytes: &[u8], known: &[Known]) -> Option<Arc<RuleSet>> {
        // A panic while it was held left a map that is whole: entries are inserted at once.
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = cache.get(bytes) {
            return rules.clone();
        }
        let (pack, _) = read(bytes, known);
        let rules = (!pack.rules.is_empty()).then(|| Arc::new(RuleSet::alone(vec![pack])));
        if cache.len() == CACHE {
            cache.clear();
        }
        cache.insert(bytes.to_owned(), rules.clone());
        rules
    }
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    citation: Vec<toml::Value>,
    #[serde(default)]
    rule: Vec<Spanned<toml::Table>>,
}

/// The carried rules that can be used, as a pack, and what is wrong with the others. `known` are the packs in force,
/// whose citations they may use.
pub(super) fn read(bytes: &[u8], known: &[Known]) -> (Pack, Vec<RuleError>) {
    let mut pack = Pack {
        id: PackId { id: "carried".to_owned(), version: "0.0.0".to_owned() },
        as_of: "2026-09-01".to_owned(),
        extends: Vec::new(),
        disable: Vec::new(),
        digest: String::new(),
        citations: Vec::new(),
        rules: Vec::new(),
        places: Vec::new(),
    };
    let mut problems = Vec::new();
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= CARRIED_LIMIT) else {
        return (pack, problems);
    };
    let source: Source = match toml::from_str(text) {
        Ok(source) => source,
        Err(error) => {
            let place = Place::new(FILE, text, error.span().map(|span| span.start), None);
            problems.push(place.error(error.message().replace('\n', " "), "write rules as [[rule]] tables"));
            return (pack, problems);
        }
    };
    let citations = source.citation.into_iter().take(CITATIONS_LIMIT);
    pack.citations = citations
        .filter_map(|citation| citation.try_into::<Citation>().ok())
        .filter(|citation| is_name(&citation.id, b"-._()/: "))
        .collect();
    let own = pack.citations.iter().map(|citation| citation.id.clone());
    let citations: BTreeSet<String> =
        known.iter().flat_map(|other| other.citations.iter().cloned()).chain(own).collect();
    let total = source.rule.len();
    for entry in source.rule.into_iter().take(RULES_LIMIT) {
        let offset = Some(entry.span().start);
        let table = entry.into_inner();
        let id = table.get("id").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let place = Place::new(FILE, text, offset, Some(&id));
        match rule(table, &citations, &pack, &place) {
            Ok(rule) => {
                pack.places.push((FILE.to_owned(), place.line().unwrap_or(1)));
                pack.rules.push(rule);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if total > RULES_LIMIT {
        let problem = format!("{total} rules, of which the first {RULES_LIMIT} are read");
        let next = "keep the others in a pack of the user's rules folder";
        problems.push(Place::new(FILE, text, None, None).error(problem, next));
    }
    (pack, problems)
}

fn rule(
    table: toml::Table,
    citations: &BTreeSet<String>,
    pack: &Pack,
    place: &Place<'_>,
) -> Result<Rule, RuleError> {
    let read = Rule::deserialize(MapDeserializer::new(table.into_iter()));
    let rule = read.map_err(|error: toml::de::Error| {
        place.error(error.message().replace('\n', " "), "correct it by docs/rules.md, which lists all keys")
    })?;
    if !rule.id.starts_with(PREFIX) || rule.id.len() > NAME_LIMIT {
        let next = format!("name it like {PREFIX}topic.name, in {NAME_LIMIT} bytes");
        return Err(place.error("not the id of a carried rule", next));
    }
    if pack.rules.iter().any(|other| other.id == rule.id) {
        return Err(place.error("the id is already used", "give this rule another id"));
    }
    if let Some(tag) = rule.tags.keys().find(|tag| !is_name(tag, b"-_")) {
        return Err(place.error(format!("tag {tag:?}"), "use letters, digits, '-' and '_'"));
    }
    if rule.sel.values().any(|selection| selection.subject == Subject::Found) {
        return Err(place.error("`found` is for packs", "look at files, message, author or size instead"));
    }
    check_rule(&rule, citations, place)?;
    pattern::try_patterns(&rule, CARRIED_REGEX).map_err(|problem| place.error(problem, "make it simpler"))?;
    Ok(rule)
}

fn is_name(text: &str, also: &[u8]) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
    (1..=NAME_LIMIT).contains(&text.len()) && text.bytes().all(fits)
}

/// The files of a commit that carried rules see.
pub(super) fn seen(files: &[ChangedFile]) -> &[ChangedFile] {
    let mut left = TEXT_LIMIT;
    let mut fits = |file: &ChangedFile| {
        let size = file.text.added.text.len() + file.text.removed.text.len();
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    let count = files.iter().position(|file| !fits(file)).unwrap_or(files.len());
    &files[..count]
}

/// Adds what carried rules found.
pub(super) fn add(verdict: &mut Verdict, carried: Verdict, limit: usize, most: f64) {
    verdict.points = ((verdict.points + carried.points.min(POINTS_LIMIT)).min(most) * 100.0).round() / 100.0;
    verdict.tags.extend(carried.tags);
    let room = limit.saturating_sub(verdict.findings.len());
    verdict.findings.extend(carried.findings.into_iter().take(room));
}

/// The ticket that the repository's own pattern (`ticket = 'PROJ-\d+'`) finds in a message: the first match that looks
/// like one, of letters, digits and `#/_-` with a digit among them, so that no pattern copies people or sentences.
#[must_use]
pub fn carried_ticket(carried: &[u8], message: &str) -> Option<String> {
    let pattern = ticket_pattern(carried)?.ok()?;
    pattern.find_iter(message.as_bytes()).find_map(|hit| {
        let text = message.get(hit.range())?.trim();
        let fits = is_name(text, b"#/_-") && text.bytes().any(|byte| byte.is_ascii_digit());
        fits.then(|| text.to_owned())
    })
}

/// The ticket pattern of a carried file; what is wrong with it where it cannot be used.
fn ticket_pattern(carried: &[u8]) -> Option<Result<regex_automata::meta::Regex, String>> {
    // Most carried files have none.
    memchr::memmem::find(carried, b"ticket")?;
    let text = std::str::from_utf8(carried).ok().filter(|text| text.len() <= CARRIED_LIMIT)?;
    let table: toml::Table = toml::from_str(text).ok()?;
    let Some(source) = table.get("ticket")?.as_str().filter(|source| source.len() <= TICKET_LIMIT) else {
        return Some(Err(format!("ticket is no text of up to {TICKET_LIMIT} bytes")));
    };
    Some(
        pattern::compile(source, CARRIED_REGEX)
            .map_err(|error| format!("ticket: {}", pattern::explain(&error))),
    )
}

impl RuleSet {
    /// How many rules a carried file adds, and what is wrong with the rest of its rules and with its ticket pattern,
    /// which all count as not there.
    #[must_use]
    pub fn carried_rules(&self, bytes: &[u8]) -> (usize, Vec<String>) {
        let (pack, problems) = read(bytes, self.known());
        let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        problems
            .extend(ticket_pattern(bytes).and_then(Result::err).map(|problem| format!("{FILE}: {problem}")));
        (pack.rules.len(), problems)
    }

    /// Runs the examples of the rules that a carried file adds.
    #[must_use]
    pub fn check_carried(&self, bytes: &[u8], today: &str) -> Option<super::CheckReport> {
        let (pack, _) = read(bytes, self.known());
        (!pack.rules.is_empty()).then(|| Self::alone(vec![pack]).check(today))
    }

    /// Adds to a verdict what the carried rules say.
    pub(super) fn judge_carried(&self, facts: &CommitFacts, class: super::Class, verdict: &mut Verdict) {
        let Some(bytes) = &facts.carried else { return };
        let Some(rules) = self.carried.get(bytes, self.known()) else { return };
        let engine = rules.engine.get_or_init(|| rules.build_engine());
        let carried = engine.judge_with(
            seen(facts.judged()),
            facts,
            class,
            (&rules, Carried::read(bytes)),
            &mut |rule, commit, view| rule.find(commit, view),
        );
        add(verdict, carried, super::matcher::FINDINGS_LIMIT, super::matcher::POINTS_LIMIT);
    }
}
