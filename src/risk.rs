//! How risky a commit is: the change-risk model M2 and the points of the rules, in one number.
//!
//! M2 was fitted on published defect data: p = σ(−2.9158 + 0.5147·ln(1+LA) + 0.1237·ln(1+LT)), with LA the
//! lines added and LT the old lengths of the touched files, over what the rules see too (of a merge, what
//! differs from every parent). All files count, translations, lock files and generated ones included, as
//! in the data that M2 was fitted on; what keeps their size from alarming anybody is its weight:
//!
//! > score = 1 − (1 − 0.3·p) · 2^(−points / 30)
//!
//! Monotone in each part, and chosen so that three sentences hold with the default levels. Size alone stays
//! below 0.3, which is low: a thousand lines of translations. Size with rules of low and medium severity,
//! which give 24 points at most, stays below 0.6: it is never high. And 40 points give 0.6 whatever the
//! size: a removed safeguard is high in a commit of one line. Points add: two of 20 are as one of 40.
//!
//! The default levels were chosen on 160 judged commits of seven public repositories, within what the
//! three sentences leave free.
//!
//! Logarithm and exponential come from `libm`, in software, so that the score is the same everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::{ChangedFile, CommitFacts};
use crate::rules::Verdict;

/// Name and version of the model, as records carry it.
pub const MODEL: &str = "m2-rules/1";

const INTERCEPT: f64 = -2.9158;
/// M2's weight of ln(1 + lines added).
pub const BY_ADDED: f64 = 0.5147;
/// M2's weight of ln(1 + prior lines).
pub const BY_PRIOR: f64 = 0.1237;
/// The most that size can make of the score.
const SIZE_WEIGHT: f64 = 0.3;
/// Points that halve the distance to 1.
const HALVING: f64 = 30.0;
/// Rules named one by one among the factors; the others are summed.
const NAMED_RULES: usize = 8;

/// Where the levels begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The least score of `medium`.
    pub medium: f64,
    /// The least score of `high`.
    pub high: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { medium: 0.4, high: 0.6 }
    }
}

/// How much attention a commit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Low,
    Medium,
    High,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// One reason for a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// `base-rate`, `lines-added`, `prior-lines`, `rule:ID`, or `other-rules`.
    pub factor: String,
    /// What was measured: lines, or the rule's points; for the base rate the probability of an empty commit.
    pub value: f64,
    /// Its part of the score, three decimals.
    pub contribution: f64,
}

/// A commit's risk.
#[derive(Clone, Debug, PartialEq)]
pub struct Risk {
    /// 0 to 1, three decimals.
    pub score: f64,
    /// By the thresholds.
    pub level: Level,
    /// The reasons, largest first; the contributions add up to the score.
    pub factors: Vec<Factor>,
}

/// M2: the probability that a change with so many added lines (`la`), in files that had so many lines
/// together (`lt`), brings a defect in. Without local calibration a relative measure.
#[must_use]
pub fn m2(la: u64, lt: u64) -> f64 {
    sigmoid(INTERCEPT + by_added(la) + by_prior(lt))
}

fn by_added(la: u64) -> f64 {
    BY_ADDED * libm::log1p(number(la))
}

fn by_prior(lt: u64) -> f64 {
    BY_PRIOR * libm::log1p(number(lt))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn number(lines: u64) -> f64 {
    // Beyond 2^32 lines precision does not matter.
    u32::try_from(lines).map_or(f64::from(u32::MAX), f64::from)
}

/// M2's probability for a commit: the change risk alone, without the rules.
#[must_use]
pub fn change(facts: &CommitFacts) -> f64 {
    let (la, lt) = sizes(facts);
    m2(la, lt)
}

/// Lines added, and old lengths of the touched files, of what rules and model see.
fn sizes(facts: &CommitFacts) -> (u64, u64) {
    let sum = |lines: fn(&ChangedFile) -> u32| facts.judged().iter().map(|file| u64::from(lines(file))).sum();
    (sum(|file| file.insertions), sum(|file| file.old_lines))
}

/// Scores a commit by its size and by what the rules found.
#[must_use]
pub fn assess(facts: &CommitFacts, verdict: &Verdict, thresholds: &Thresholds) -> Risk {
    let (la, lt) = sizes(facts);
    let (size, points) = (SIZE_WEIGHT * m2(la, lt), verdict.points.max(0.0));
    let thousandths = thousandths(1.0 - (1.0 - size) * libm::exp2(-points / HALVING));
    let score = f64::from(thousandths) / 1000.0;
    let level = match score {
        _ if score >= thresholds.high => Level::High,
        _ if score >= thresholds.medium => Level::Medium,
        _ => Level::Low,
    };
    let shares = shares(la, lt, size, points, verdict);
    Risk { score, level, factors: share_out(shares, thousandths) }
}

fn thousandths(score: f64) -> u32 {
    // In 0..=1 by construction, so that the cast loses nothing.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let whole = libm::round(score.clamp(0.0, 1.0) * 1000.0) as u32;
    whole
}

/// Name, value and weight of each factor. Size and rules add in −ln(1 − x); within the size part the base
/// rate has its own probability and the rest goes by the terms of the model.
fn shares(la: u64, lt: u64, size: f64, points: f64, verdict: &Verdict) -> Vec<(String, f64, f64)> {
    let whole_size = -libm::log1p(-size);
    let base = m2(0, 0);
    let base_part = (SIZE_WEIGHT * base / size).min(1.0);
    let terms = by_added(la) + by_prior(lt);
    let part = |term: f64| if terms > 0.0 { whole_size * (1.0 - base_part) * term / terms } else { 0.0 };
    let mut shares = vec![
        ("base-rate".to_owned(), libm::round(base * 1000.0) / 1000.0, whole_size * base_part),
        ("lines-added".to_owned(), number(la), part(by_added(la))),
        ("prior-lines".to_owned(), number(lt), part(by_prior(lt))),
    ];
    let mut rules: BTreeMap<&str, f64> = BTreeMap::new();
    for finding in verdict.findings.iter().filter(|finding| finding.points > 0.0) {
        *rules.entry(&finding.rule).or_default() += finding.points;
    }
    let found: f64 = rules.values().sum();
    let mut rules: Vec<(&str, f64)> = rules.into_iter().collect();
    rules.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let weight = |value: f64| {
        if found > 0.0 { core::f64::consts::LN_2 * points / HALVING * value / found } else { 0.0 }
    };
    let other: f64 = rules.iter().skip(NAMED_RULES).map(|(_, value)| value).sum();
    for (rule, value) in rules.into_iter().take(NAMED_RULES) {
        shares.push((format!("rule:{rule}"), libm::round(value * 100.0) / 100.0, weight(value)));
    }
    if other > 0.0 {
        shares.push(("other-rules".to_owned(), libm::round(other * 100.0) / 100.0, weight(other)));
    }
    shares
}

/// Shares out whole thousandths by weight (largest remainder), so that the contributions add up exactly.
fn share_out(shares: Vec<(String, f64, f64)>, thousandths: u32) -> Vec<Factor> {
    let sum: f64 = shares.iter().map(|(_, _, weight)| weight).sum();
    let exact: Vec<f64> = shares
        .iter()
        .map(|(_, _, weight)| if sum > 0.0 { f64::from(thousandths) * weight / sum } else { 0.0 })
        .collect();
    let mut whole: Vec<f64> = exact.iter().map(|part| libm::floor(*part)).collect();
    let mut left = f64::from(thousandths) - whole.iter().sum::<f64>();
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|a, b| (exact[*b] - whole[*b]).total_cmp(&(exact[*a] - whole[*a])).then(a.cmp(b)));
    for at in order {
        if left < 1.0 {
            break;
        }
        whole[at] += 1.0;
        left -= 1.0;
    }
    let mut factors: Vec<Factor> = shares
        .into_iter()
        .zip(whole)
        .map(|((factor, value, _), part)| Factor { factor, value, contribution: part / 1000.0 })
        .filter(|factor| factor.contribution > 0.0)
        .collect();
    factors.sort_by(|a, b| b.contribution.total_cmp(&a.contribution).then_with(|| a.factor.cmp(&b.factor)));
    factors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{FileKind, Person, RepoPath, Status};
    use crate::rules::{Finding, Severity, Side};

    fn facts(la: u32, lt: u32) -> CommitFacts {
        let file = ChangedFile {
            path: RepoPath::new("a"),
            old_path: None,
            status: Status::Modified,
            old_mode: 0o100_644,
            new_mode: 0o100_644,
            insertions: la,
            deletions: 7,
            old_lines: lt,
            size: None,
            binary: false,
            manifest: None,
            kind: FileKind::Source,
            text: crate::facts::ChangedText::default(),
        };
        CommitFacts {
            id: String::new(),
            parents: Vec::new(),
            message: String::new(),
            author: Person::default(),
            committer: Person::default(),
            author_time: 0,
            commit_time: 0,
            signature: None,
            files: vec![file],
            merged: None,
            incomplete: Vec::new(),
            carried: None,
        }
    }

    fn verdict(points: &[f64]) -> Verdict {
        let finding = |(number, points): (usize, &f64)| Finding {
            rule: format!("a.b.c{number:02}"),
            version: 1,
            severity: Severity::High,
            tags: Vec::new(),
            citations: Vec::new(),
            path: None,
            side: Some(Side::Added),
            line: None,
            count: 1,
            points: *points,
            allowed: None,
        };
        let findings = points.iter().enumerate().map(finding).collect();
        Verdict { findings, points: points.iter().sum(), ..Verdict::default() }
    }

    fn risk(la: u32, lt: u32, points: &[f64]) -> Risk {
        assess(&facts(la, lt), &verdict(points), &Thresholds::default())
    }

    #[test]
    fn m2_is_the_published_model() {
        for ((la, lt), p) in
            [((0, 0), 0.0514), ((10, 300), 0.2738), ((100, 1000), 0.5779), ((1000, 5000), 0.8447)]
        {
            assert!((m2(la, lt) - p).abs() < 0.000_05, "{la} {lt}: {}", m2(la, lt));
        }
    }

    #[test]
    fn the_three_sentences_hold() {
        assert_eq!(risk(u32::MAX, u32::MAX, &[]).level, Level::Low);
        assert!(risk(u32::MAX, u32::MAX, &[24.0]).level < Level::High);
        assert_eq!(risk(0, 0, &[40.0]).level, Level::High);
        assert_eq!(risk(0, 0, &[20.0, 20.0]).score, risk(0, 0, &[40.0]).score);
    }

    #[test]
    fn an_empty_commit_has_the_base_rate_alone() {
        let risk = risk(0, 0, &[]);
        assert_eq!((risk.score, risk.factors.len()), (0.015, 1));
        assert_eq!((risk.factors[0].factor.as_str(), risk.factors[0].value), ("base-rate", 0.051));
    }

    proptest::proptest! {
        #[test]
        fn factors_add_up_and_the_score_is_monotone(
            la in 0_u32..100_000,
            lt in 0_u32..100_000,
            points in proptest::collection::vec(0.0_f64..45.0, 0..12),
        ) {
            let whole = risk(la, lt, &points);
            let sum: f64 = whole.factors.iter().map(|factor| factor.contribution).sum();
            proptest::prop_assert!((sum - whole.score).abs() < 1e-9, "{sum} {}", whole.score);
            proptest::prop_assert!(whole.factors.is_sorted_by(|a, b| a.contribution >= b.contribution));
            proptest::prop_assert!((0.0..=1.0).contains(&whole.score));
            proptest::prop_assert!(risk(la + 10, lt, &points).score >= whole.score);
            proptest::prop_assert!(risk(la, lt + 10, &points).score >= whole.score);
            let more: Vec<f64> = points.iter().copied().chain([1.0]).collect();
            proptest::prop_assert!(risk(la, lt, &more).score >= whole.score);
        }
    }
}
