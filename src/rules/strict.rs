//! What a rule must be, beyond its keys: the checks that refuse a pack. Compiled into `build.rs` as well.

use std::collections::BTreeSet;

use super::index::SHORTEST;
use super::pack::{PATTERN_LIMIT, Place, RuleError, VALIDATORS, is_date};
use super::rule::{CHANGES, Expect, KINDS, Rule, Selection, Status, Subject};

/// Checks one rule of a pack.
pub(super) fn check_rule(
    rule: &Rule,
    citations: &BTreeSet<String>,
    place: &Place<'_>,
) -> Result<(), RuleError> {
    if rule.id.split('.').count() < 3
        || !rule.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        return Err(place.error(
            "the id is not of the form tag.topic.name",
            "use letters, digits, '-' and two or more dots",
        ));
    }
    for (key, value) in [("title", &rule.title), ("why", &rule.why), ("ask", &rule.ask)] {
        if value.trim().is_empty() {
            return Err(
                place.error(format!("no {key}"), format!("say in `{key}` what a reviewer needs to know"))
            );
        }
    }
    for citation in rule.tags.values().flatten() {
        if !citations.contains(citation) {
            let next = "add a [[citation]] with this id, or `extends` the pack that has it";
            return Err(place.error(format!("unknown citation {citation:?}"), next));
        }
    }
    if let Some(tag) = rule.tags.iter().find(|(_, citations)| citations.is_empty()).map(|(tag, _)| tag) {
        return Err(place.error(format!("tag {tag} without a citation"), "cite what the tag follows from"));
    }
    if !(0.0..=50.0).contains(&rule.weight) {
        return Err(place.error(format!("weight {}", rule.weight), "use 0 to 50"));
    }
    let factors = rule.when.by_class.values().any(|factor| !(0.0..=2.0).contains(factor));
    if factors || rule.when.boost.values().any(|points| !(0.0..=50.0).contains(points)) {
        return Err(
            place.error("a boost or factor out of range", "boosts go from 0 to 50, factors from 0 to 2")
        );
    }
    if (rule.status == Status::Deprecated) != rule.replaced_by.is_some() {
        return Err(
            place.error("`replaced_by` goes with status deprecated, and only with it", "add or drop it")
        );
    }
    check_when(rule, place)?;
    if rule.asks_findings() && rule.sel.values().any(|selection| !selection.subject.is_commit()) {
        let next = "use message, author, trailer, size and found only; other rules find what is in files";
        return Err(place.error("`found` beside a selection about files", next));
    }
    for (name, selection) in &rule.sel {
        check_selection(rule, name, selection, place)?;
    }
    for word in rule.keywords.iter().chain(rule.sel.values().flat_map(|selection| &selection.keywords)) {
        check_literal("keyword", word, place)?;
    }
    for allow in &rule.allow {
        for glob in &allow.path {
            check_glob(glob, place)?;
        }
        if !is_date(&allow.until) || allow.reason.trim().is_empty() || allow.owner.trim().is_empty() {
            return Err(
                place.error("an allowance without reason, owner or a date in `until`", "fill in all three")
            );
        }
    }
    check_examples(rule, place)
}

fn check_when(rule: &Rule, place: &Place<'_>) -> Result<(), RuleError> {
    let when = &rule.when;
    if when.all.is_empty() && when.any.is_empty() {
        return Err(
            place.error("[rule.when] has neither `all` nor `any`", "name the selections that must hold")
        );
    }
    let named: Vec<&String> =
        when.all.iter().chain(&when.any).chain(&when.none).chain(when.boost.keys()).collect();
    if let Some(name) = named.iter().find(|name| !rule.sel.contains_key(**name)) {
        return Err(place.error(format!("unknown selection {name:?}"), "define it as [rule.sel.NAME]"));
    }
    if let Some(name) = rule.sel.keys().find(|name| !named.contains(name)) {
        return Err(
            place.error(format!("selection {name:?} is never used"), "use it in [rule.when], or drop it")
        );
    }
    if when.at_least.is_some_and(|number| number == 0 || number > when.any.len()) {
        return Err(place.error("`at_least` is not between 1 and the number of `any`", "correct the number"));
    }
    Ok(())
}

fn check_selection(
    rule: &Rule,
    name: &str,
    selection: &Selection,
    place: &Place<'_>,
) -> Result<(), RuleError> {
    let bad = |problem: &str, next: &str| Err(place.error(format!("selection {name:?}: {problem}"), next));
    let Selection { subject, regex, glob, kind, keywords, min_count, group, validator, .. } = selection;
    if let Some(change) = selection.change.iter().find(|change| !CHANGES.contains(&change.as_str())) {
        return bad(&format!("unknown change {change:?}"), &format!("use one of {}", CHANGES.join(", ")));
    }
    for package in &selection.package {
        check_glob(package, place)?;
    }
    let reads_lines = subject.is_text() || *subject == Subject::Message;
    let by_regex = reads_lines
        || matches!(
            subject,
            Subject::Author | Subject::Trailer | Subject::Mode | Subject::Found | Subject::Item
        );
    let wanted = match subject {
        Subject::Path => !glob.is_empty() || !regex.is_empty(),
        Subject::Kind => !kind.is_empty(),
        Subject::Size => min_count.is_some(),
        Subject::Added | Subject::Removed | Subject::NetAdded | Subject::NetRemoved => true,
        // Without `package` and `change` any change of a component.
        Subject::Manifest => true,
        _ => !regex.is_empty(),
    };
    if !wanted {
        return bad(
            "says nothing",
            "`path` needs glob or regex, `kind` needs kind, `size` needs min_count, the others need regex",
        );
    }
    let stray = (!glob.is_empty() && *subject != Subject::Path)
        || (!kind.is_empty() && *subject != Subject::Kind)
        || (!regex.is_empty() && !by_regex && *subject != Subject::Path)
        || (!keywords.is_empty() && !reads_lines)
        || ((!selection.package.is_empty() || !selection.change.is_empty()) && *subject != Subject::Manifest)
        || (min_count.is_some() && !reads_lines && !matches!(subject, Subject::Size | Subject::Manifest))
        || ((selection.context.is_some() || selection.code) && !subject.is_text())
        || (selection.fewer && *subject != Subject::NetRemoved)
        || (selection.more && *subject != Subject::NetAdded)
        || (regex.is_empty() && (validator.is_some() || selection.entropy_min.is_some()))
        || ((group.is_some() || validator.is_some() || selection.entropy_min.is_some()) && !reads_lines);
    if stray {
        return bad("a key that its subject does not have", "see the table of keys in docs/rules.md");
    }
    if group.is_some() && regex.len() != 1 {
        return bad("`group` needs exactly one regex", "split the selection");
    }
    if let Some(kind) = kind.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return bad(&format!("unknown file kind {kind:?}"), &format!("use one of {}", KINDS.join(", ")));
    }
    if let Some(validator) = validator.as_ref().filter(|validator| !VALIDATORS.contains(&validator.as_str()))
    {
        return bad(
            &format!("unknown validator {validator:?}"),
            &format!("use one of {}", VALIDATORS.join(", ")),
        );
    }
    if selection.entropy_min.is_some_and(|bits| !(0.0..=8.0).contains(&bits)) || *min_count == Some(0) {
        return bad("a number out of range", "entropy_min goes from 0 to 8, min_count from 1");
    }
    if let Some(pattern) = regex.iter().find(|pattern| pattern.len() > PATTERN_LIMIT) {
        return bad(
            &format!("a regex of {} bytes", pattern.len()),
            &format!("keep it under {PATTERN_LIMIT}"),
        );
    }
    for glob in glob {
        check_glob(glob, place)?;
    }
    if let Some(context) = &selection.context {
        if context.words.is_empty() || context.lines > 100 {
            return bad("context without words, or more than 100 lines", "give words, and up to 100 lines");
        }
        for word in &context.words {
            check_literal("context word", word, place)?;
        }
    }
    if *subject == Subject::Message && rule.keywords_of(selection).is_empty() {
        return bad(
            "a message selection without keywords",
            "add keywords, so that it costs nothing where they are absent",
        );
    }
    Ok(())
}

fn check_literal(what: &str, literal: &str, place: &Place<'_>) -> Result<(), RuleError> {
    let fits = (SHORTEST..=PATTERN_LIMIT).contains(&literal.len()) && !literal.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    let next = format!("use at least {SHORTEST} bytes and no control characters");
    Err(place.error(format!("{what} {literal:?} is too short, too long or has control characters"), next))
}

fn check_glob(glob: &str, place: &Place<'_>) -> Result<(), RuleError> {
    if glob.starts_with('!')
        || glob.is_empty()
        || glob.len() > PATTERN_LIMIT
        || glob.chars().any(char::is_control)
    {
        let next = "write it without a leading '!'; exclude with `none` in [rule.when]";
        return Err(place.error(format!("glob {glob:?}"), next));
    }
    Ok(())
}

fn check_examples(rule: &Rule, place: &Place<'_>) -> Result<(), RuleError> {
    for (expect, word) in [(Expect::Match, "match"), (Expect::NoMatch, "no_match")] {
        if !rule.test.iter().any(|test| test.expect == expect) {
            let next = format!("add a [[rule.test]] with expect = \"{word}\"");
            return Err(place.error(format!("no example with expect = \"{word}\""), next));
        }
    }
    for test in &rule.test {
        let bad =
            |problem: &str, next: &str| Err(place.error(format!("test {:?}: {problem}", test.name), next));
        if test.diff.is_some() && test.file.is_some() {
            return bad("both diff and file", "keep one");
        }
        if (test.diff.is_some() || test.file.is_some()) && test.path.is_none() {
            return bad("a change without a path", "add path");
        }
        if test.kind.as_ref().is_some_and(|kind| !KINDS.contains(&kind.as_str())) {
            return bad("unknown file kind", &format!("use one of {}", KINDS.join(", ")));
        }
        let odd = test
            .diff
            .iter()
            .flat_map(|diff| diff.lines())
            .any(|line| !line.starts_with(['+', '-', ' ']) && !line.is_empty());
        if odd {
            return bad("a line of diff without '+', '-' or ' '", "begin each line with one of the three");
        }
    }
    Ok(())
}
