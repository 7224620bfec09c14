//! Why a commit has its score, as a reviewer would say it: whole sentences with their numbers, the weightiest
//! first.
//!
//! A rule is one reason, however often it was found; base rate, added lines and prior lines are one too, because
//! nobody can do anything about one of them alone. `riskFactors` has all of them apart.

use gitops_agent::record::Record;
use gitops_agent::risk;
use gitops_agent::rules::RuleSet;

use super::ui;

/// How many reasons a person wants to read.
pub(super) const REASONS: usize = 3;

/// All reasons, by their part of the score.
pub(super) fn reasons(record: &Record, rules: &RuleSet) -> Vec<String> {
    let mut found: Vec<(f64, String)> = record
        .risk_factors
        .iter()
        .filter_map(|factor| {
            let id = factor.factor.strip_prefix("rule:")?;
            Some((factor.contribution, rule(record, rules, id, factor.value, factor.contribution)))
        })
        .collect();
    found.push(size(record));
    if let Some(others) = record.risk_factors.iter().find(|factor| factor.factor == "other-rules") {
        let text = format!("Further rules give {} points ({:+.2}).", others.value, others.contribution);
        found.push((others.contribution, text));
    }
    if !record.complete {
        // What was not read may be anything: it comes right after what is known to be worst.
        let worst = found.iter().map(|(part, _)| *part).fold(0.0, f64::max);
        let because = record.incomplete_because.join(", ");
        found.push((
            worst - 1e-9,
            format!("Not all of it could be read ({because}): the score may be too low."),
        ));
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, text)| text).collect()
}

fn rule(record: &Record, rules: &RuleSet, id: &str, points: f64, part: f64) -> String {
    let known = rules.rules().find(|rule| rule.id == id);
    let findings: Vec<_> = record.findings.iter().filter(|finding| finding.rule == id).collect();
    let first = findings.first().map(|finding| match (&finding.path, finding.line) {
        (Some(path), Some(line)) => format!("{path}:{line}"),
        (Some(path), None) => path.clone(),
        (None, _) => "the message".to_owned(),
    });
    let files = findings
        .iter()
        .filter_map(|finding| finding.path.as_ref())
        .collect::<std::collections::BTreeSet<_>>();
    let elsewhere = match files.len() {
        0 | 1 => String::new(),
        more => format!(" and {}", ui::count(more - 1, "other file")),
    };
    let place = first.map_or_else(String::new, |first| format!(": {first}{elsewhere}"));
    let mut text = format!(
        "{}{place} ({points} points, {part:+.2}).",
        known.map_or(id, |rule| rule.title.trim_end_matches('.'))
    );
    if let Some(finding) = findings.first()
        && let (tags, Some(citation)) = (finding.tags.join(" and "), finding.citations.first())
    {
        text.push_str(&format!(" {tags}, {citation}."));
    }
    if let Some(ask) = known.map(|rule| rule.ask.trim()).filter(|ask| !ask.is_empty()) {
        text.push_str(&format!(" Ask: {ask}"));
    }
    text
}

fn size(record: &Record) -> (f64, String) {
    let factor = |name: &str| record.risk_factors.iter().find(|factor| factor.factor == name);
    let value = |name: &str| factor(name).map_or(0.0, |factor| factor.value);
    let parts = ["base-rate", "lines-added", "prior-lines"];
    let part: f64 = parts.iter().filter_map(|name| Some(factor(name)?.contribution)).sum();
    let (added, prior) = (value("lines-added"), value("prior-lines"));
    // Both come from whole numbers below 2^32.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^32")]
    let p = risk::m2(added.max(0.0) as u64, prior.max(0.0) as u64);
    let lines = |count: f64| format!("{count} line{}", if count == 1.0 { "" } else { "s" });
    // A merge is judged by what differs from every parent.
    let change = if record.parents.len() > 1 && added == 0.0 && prior == 0.0 {
        "A merge of which every line came from a parent".to_owned()
    } else {
        format!("{} added to {} of {}", lines(added), ui::count(record.stats.files, "file"), lines(prior))
    };
    let mut text = format!(
        "{change}: in public histories {:.0} of 100 changes of this size brought a defect in ({part:+.2}).",
        100.0 * p
    );
    if let Some(percentile) = record.risk_percentile {
        text.push_str(&format!(" That is more than {percentile} % of this repository's commits."));
    }
    if let Some(calibrated) = record.risk_calibrated {
        text.push_str(&format!(" By this repository's own history: {:.0} of 100.", 100.0 * calibrated));
    }
    (part, text)
}
