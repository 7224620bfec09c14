//! Runs the examples that every rule carries through the engine that judges commits, prefilter included.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::rule::{Example, Expect, Rule};
use super::validators::luhn;
use super::{Class, RuleSet};
use crate::facts::{
    ChangedFile, ChangedText, CommitFacts, FileKind, Manifest, Person, RepoPath, SideText, Status,
};

/// What `rules check` found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Examples that came out otherwise than expected.
    pub failures: Vec<CheckFailure>,
    /// Rules looked at.
    pub rules: usize,
    /// Examples run.
    pub tests: usize,
    /// Worth a look, and no failure: counter-examples of one rule that another rule finds, and rules that look
    /// for the same.
    pub notes: Vec<CheckNote>,
}

/// Something that `rules check` found and that may be meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckNote {
    /// The rule.
    pub rule: String,
    /// What it is.
    pub message: String,
}

/// One example that came out otherwise than expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckFailure {
    /// The pack.
    pub pack: String,
    /// The rule.
    pub rule: String,
    /// Its file.
    pub file: String,
    /// The one-based line at which it begins; 1 where that is not known.
    pub line: usize,
    /// The example's name.
    pub test: String,
    /// What came out, and what to look at.
    pub message: String,
}

/// What a rule may take for its examples, without the compilation of its patterns, before it is called slow.
const SLOW: Duration = Duration::from_millis(250);

/// `today` (`YYYY-MM-DD`) decides which allowances have run out.
pub(super) fn check(rules: &RuleSet, today: &str) -> CheckReport {
    let mut report = CheckReport { failures: Vec::new(), rules: 0, tests: 0, notes: Vec::new() };
    let mut looks: BTreeMap<String, &str> = BTreeMap::new();
    let in_force: std::collections::BTreeSet<&str> = rules.rules().map(|rule| rule.id.as_str()).collect();
    let any_disabled = rules.full_packs().any(|pack| !pack.disable.is_empty());
    for pack in rules.full_packs() {
        let rules_of_it = pack.rules.iter().zip(&pack.places);
        for (rule, (file, line)) in rules_of_it.filter(|(rule, _)| in_force.contains(rule.id.as_str())) {
            report.rules += 1;
            if rule.status == super::Status::Deprecated {
                continue;
            }
            let mut fail = |test: &str, message: String| {
                let (pack, rule, test) = (pack.id.id.clone(), rule.id.clone(), test.to_owned());
                let (file, line) = (file.clone(), *line);
                report.failures.push(CheckFailure { pack, rule, file, line, test, message });
            };
            for allow in rule.allow.iter().filter(|allow| allow.until.as_str() < today) {
                let next = "prolong it with a reason, or delete it";
                fail("allow", format!("the allowance {:?} ran out on {}; {next}", allow.reason, allow.until));
            }
            let mut overlaps = BTreeSet::new();
            // What such a rule hangs on may be switched off, which is no fault of its own.
            let hangs = any_disabled && rule.asks_findings();
            for test in rule.test.iter().filter(|test| !(hangs && test.expect == Expect::Match)) {
                report.tests += 1;
                match run(rules, rule, test, &pack.as_of) {
                    Ok(others) if test.expect == Expect::NoMatch => overlaps.extend(others),
                    Ok(_) => {}
                    Err(message) => fail(&test.name, message),
                }
            }
            if let Some(time) = slow(rules, rule) {
                fail(
                    "time",
                    format!("takes {} ms for a line of 64 KiB; split its patterns", time.as_millis()),
                );
            }
            if !overlaps.is_empty() {
                let others: Vec<String> = overlaps.into_iter().collect();
                let message = format!("its counter-examples are found by {}", others.join(", "));
                report.notes.push(CheckNote { rule: rule.id.clone(), message });
            }
            let look = serde_json::to_string(&(&rule.sel, &rule.when)).unwrap_or_default();
            if let Some(first) = looks.insert(look, &rule.id) {
                let message = format!("looks for exactly what {first} looks for");
                report.notes.push(CheckNote { rule: rule.id.clone(), message });
            }
        }
    }
    report.notes.extend(uncited(rules));
    report
}

/// Citations that no rule in force goes back to.
fn uncited(rules: &RuleSet) -> impl Iterator<Item = CheckNote> {
    let cited: BTreeSet<&String> = rules.rules().flat_map(|rule| rule.tags.values().flatten()).collect();
    rules.full_packs().flat_map(move |pack| {
        let unused = pack.citations.iter().filter(|citation| !cited.contains(&citation.id));
        let note =
            |id: &String| CheckNote { rule: pack.id.id.clone(), message: format!("no rule cites {id}") };
        unused.map(|citation| note(&citation.id)).collect::<Vec<_>>()
    })
}

/// How long a rule takes for one long line that begins with each of its keywords in turn, where that is too long.
/// Linear time makes it a matter of the factor, and a factor is what a careless pattern has.
fn slow(rules: &RuleSet, rule: &Rule) -> Option<Duration> {
    let words: String = rule
        .keywords
        .iter()
        .chain(rule.sel.values().flat_map(|selection| &selection.keywords))
        .map(|word| format!("{word} = a1_b("))
        .collect();
    let line =
        if words.is_empty() { "a1_b( = ".repeat(8192) } else { words.repeat(1 + 65_536 / words.len()) };
    let class = rule.scope.first().copied().unwrap_or(Class::Ehr);
    let test =
        Example { diff: Some(format!("-{line}\n+{line};")), path: Some("src/a.py".to_owned()), ..blank() };
    let facts = facts(&test, "2026-01-01");
    let mut spent = BTreeMap::new();
    // The first time compiles the patterns.
    for _ in 0..2 {
        spent.clear();
        let _ = rules.judge_timed(&facts, class, &mut spent);
    }
    spent.get(&rule.id).copied().filter(|time| *time > SLOW)
}

/// An example of nothing.
fn blank() -> Example {
    Example {
        name: String::new(),
        path: None,
        kind: None,
        diff: None,
        file: None,
        message: None,
        author: None,
        scope: None,
        carried: None,
        expect: Expect::NoMatch,
        line: None,
    }
}

/// Runs one example; the other rules that found something in it.
pub(super) fn run(
    rules: &RuleSet,
    rule: &Rule,
    test: &Example,
    day: &str,
) -> Result<BTreeSet<String>, String> {
    let class = test.scope.or(rule.scope.first().copied()).unwrap_or(Class::Ehr);
    let verdict = rules.judge(&facts(test, day), class);
    let found = verdict.findings.iter().find(|finding| finding.rule == rule.id && finding.allowed.is_none());
    match (test.expect, found) {
        (Expect::Match, None) => {
            let hint =
                "does a keyword stand on the line, and do the selections of [rule.when] hold for one file?";
            Err(format!("expected a match in class {class}, found none: {hint}"))
        }
        (Expect::NoMatch, Some(finding)) => {
            let place = finding.line.map(|line| format!(" at line {line}")).unwrap_or_default();
            Err(format!("expected no match in class {class}, found one{place}"))
        }
        (Expect::Match, Some(finding)) if test.line.is_some() && test.line != finding.line => {
            Err(format!("expected line {:?}, found {:?}", test.line, finding.line))
        }
        _ => {
            let others =
                verdict.findings.iter().filter(|finding| finding.rule != rule.id && finding.points > 5.0);
            Ok(others.map(|finding| finding.rule.clone()).collect())
        }
    }
}

/// The commit that an example describes.
fn facts(test: &Example, day: &str) -> CommitFacts {
    let files = test.path.as_ref().map(|path| vec![file(test, path)]).unwrap_or_default();
    let author = fill(test.author.as_deref().unwrap_or("A. Author <author@example.org>"));
    let (name, email) = author.split_once('<').unwrap_or((&author, ""));
    let author = Person { name: name.trim().to_owned(), email: email.trim_end_matches('>').to_owned() };
    let time = format!("{day}T12:00:00Z").parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    CommitFacts {
        id: "0".repeat(40),
        parents: vec!["1".repeat(40)],
        message: fill(test.message.as_deref().unwrap_or("Change")),
        committer: author.clone(),
        author,
        author_time: time,
        commit_time: time,
        signature: None,
        files,
        merged: None,
        incomplete: Vec::new(),
        carried: test.carried.as_ref().map(|text| text.clone().into_bytes()),
    }
}

fn file(test: &Example, path: &str) -> ChangedFile {
    let mut text = ChangedText::default();
    let (mut old, mut new) = (1, 1);
    let new_file =
        test.file.as_ref().map(|file| file.lines().map(|line| format!("+{line}\n")).collect::<String>());
    let diff = fill(new_file.as_deref().or(test.diff.as_deref()).unwrap_or_default());
    for line in diff.lines() {
        let rest = line.get(1..).unwrap_or_default().as_bytes();
        match line.as_bytes().first() {
            Some(b'+') => push(&mut text.added, &mut new, rest),
            Some(b'-') => push(&mut text.removed, &mut old, rest),
            _ => {
                old += 1;
                new += 1;
            }
        }
    }
    // For a manifest the two sides of the diff are the whole files.
    let whole = |sign: char| -> Option<String> {
        let lines = diff.lines().filter_map(|line| line.strip_prefix([sign, ' ']));
        let side: String = lines.map(|line| format!("{line}\n")).collect();
        (!side.is_empty()).then_some(side)
    };
    let kind = test.kind.as_ref().and_then(|kind| serde_json::from_value(serde_json::json!(kind)).ok());
    let status = if test.file.is_some() { Status::Added } else { Status::Modified };
    let count = |side: &SideText| u32::try_from(side.lines.len()).unwrap_or(u32::MAX);
    ChangedFile {
        path: RepoPath::new(path),
        old_path: None,
        status,
        old_mode: if test.file.is_some() { 0 } else { 0o100_644 },
        new_mode: 0o100_644,
        insertions: count(&text.added),
        deletions: count(&text.removed),
        old_lines: old - 1,
        size: None,
        binary: false,
        kind: kind.unwrap_or(FileKind::Source),
        text,
        manifest: Manifest::new(
            path.as_bytes(),
            whole('-').as_deref().map(str::as_bytes),
            whole('+').as_deref().map(str::as_bytes),
        ),
    }
}

fn push(side: &mut SideText, number: &mut u32, line: &[u8]) {
    side.push(*number, line);
    *number += 1;
}

/// Fills in the identifiers and secrets that no pack carries itself. They are made here, so that this file
/// does not carry them either.
pub(super) fn fill(text: &str) -> String {
    if !text.contains("{{") {
        return text.to_owned();
    }
    let npi =
        (0..10).map(|last| format!("124531959{last}")).find(|npi| luhn(format!("80840{npi}").as_bytes()));
    let (a, b, c) = (512, 43, 8761);
    let letters = |count: usize, step: usize| -> String {
        let alphabet = b"Q7xZ2mVk9LwR4tBn8YcJ5dHg3FsP6vKpTqWzXr1MaUeNbGiDyCoSjEhAfIuOlt0";
        (0..count).map(|at| char::from(alphabet[(at * step + 3) % alphabet.len()])).collect()
    };
    let fillings = [
        ("{{ssn}}", format!("{a}-{b}-{c}")),
        ("{{npi}}", npi.unwrap_or_default()),
        // Digits 1, 3 and 5, and twice 2, 4 and 6: 4+7+2 + 2*(5+1+8) = 41.
        ("{{dea}}", format!("B{}{}", "R", "4571281")),
        ("{{mbi}}", format!("2{}{}6-{}4", "TK4-", "RD", "WX7")),
        ("{{mrn}}", format!("{}{}", "0041", "7362")),
        ("{{aws}}", format!("AKIA{}", letters(16, 5).to_ascii_uppercase())),
        ("{{token}}", letters(40, 11)),
        ("{{key}}", format!("-----BEGIN {} KEY-----", "RSA PRIVATE")),
    ];
    fillings.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}
