//! What the repository's own history adds to the model M2, which knows sizes only.
//!
//! M2 ranks changes the same way everywhere, but how often a change brings a defect in differs from repository
//! to repository (.08 to .49), and so does what else tells a risky change. A [`Model`] is a logistic regression
//! over M2's two measures and over what the repository knew of the touched files and of the author when the
//! commit was made ([`Past`]): how often a file was changed, how often to fix it, how long ago.
//!
//! Invariants:
//! * A commit's [`Features`] follow from the commit and from commits before it, never from later ones.
//! * No number mirrors how the labels come about. Blame follows source files only, so that lines added to source
//!   files would tell the label well and a defect badly: with them the model won on blame's labels and lost against M2
//!   on those of ApacheJIT.
//! * Everything is read from the record ([`Change`]), so that `calibrate`, which walks the repository, and the
//!   worker, which has the record only, measure the same.
//! * Sums run in a fixed order and logarithms come from `libm`: the same history gives the same model.
//!
//! Limits: merges are not calibrated (their content was judged commit by commit), and a record lists 500
//! files, so files beyond that have no past. Paths and people are kept as 64 bits of a hash: of a
//! million paths two share a past with a probability of 3 in 100 million.

mod fit;
mod metrics;
mod split;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::risk;

pub use fit::Model;
pub use metrics::{Bin, Evaluation, evaluate};
pub use split::{Fitted, Sample, TooLittle, fit};

/// How many numbers describe a change.
pub const FEATURES: usize = 8;

/// Their names, in order.
pub const NAMES: [&str; FEATURES] = [
    "lines-added",
    "prior-lines",
    "lines-deleted",
    "files",
    "earlier-changes",
    "share-of-fixes",
    "days-untouched",
    "author-experience",
];

/// A change in numbers, in the order of [`NAMES`].
pub type Features = [f64; FEATURES];

/// What a file or an author has been through before a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Commits that changed the file, or that the author made.
    pub changes: u32,
    /// Of those, the ones that fixed something.
    pub fixes: u32,
    /// When the last of them was, in seconds since 1970.
    pub last: i64,
}

/// Everything that is known of a repository's files and authors, by [`Change::files`] and [`Change::author`].
pub type Pasts = HashMap<i64, Past>;

/// What calibration reads of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The commit.
    pub id: String,
    /// The `id` of the record's repository.
    pub repository: String,
    /// Whether it has several parents.
    pub merge: bool,
    /// Whether the message says that something was broken ([`is_fix`]).
    pub fix: bool,
    /// Committer time in seconds since 1970.
    pub time: i64,
    /// Lines added, as the risk model counts them.
    pub added: u64,
    /// Old lengths of the touched files, summed, as the risk model counts them.
    pub prior: u64,
    /// Lines removed.
    pub deleted: u64,
    /// Number of files.
    pub files_total: usize,
    /// The listed files, as keys of [`Pasts`].
    pub files: Vec<i64>,
    /// The author, as a key of [`Pasts`].
    pub author: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    repository: WireRepository,
    parents: Vec<serde::de::IgnoredAny>,
    timestamp: jiff::Timestamp,
    author: WirePerson,
    message: String,
    risk_factors: Vec<WireFactor>,
    files_changed: Vec<WireFile>,
    stats: WireStats,
}

#[derive(Deserialize)]
struct WireRepository {
    id: String,
}

#[derive(Deserialize)]
struct WirePerson {
    email: Option<String>,
    hash: Option<String>,
}

#[derive(Deserialize)]
struct WireFactor {
    factor: String,
    value: f64,
}

#[derive(Deserialize)]
struct WireFile {
    path: String,
}

#[derive(Deserialize)]
struct WireStats {
    files: usize,
    insertions: u64,
    deletions: u64,
}

impl Change {
    /// Reads it from a record's bytes.
    ///
    /// # Errors
    /// When the bytes are not a whole record.
    pub fn from_record(record: &[u8]) -> Result<Self, serde_json::Error> {
        let wire: Wire = serde_json::from_slice(record)?;
        let merge = wire.parents.len() > 1;
        let measured = |name: &str| {
            wire.risk_factors
                .iter()
                .find(|factor| factor.factor == name)
                .map_or(0, |factor| lines(factor.value))
        };
        let person = wire.author.hash.or(wire.author.email).unwrap_or_default();
        Ok(Self {
            merge,
            fix: is_fix(&wire.message),
            time: wire.timestamp.as_second(),
            // Of a merge the model sees what differs from every parent; of all others everything.
            added: if merge { measured("lines-added") } else { wire.stats.insertions },
            prior: measured("prior-lines"),
            deleted: wire.stats.deletions,
            files_total: wire.stats.files,
            files: wire.files_changed.iter().map(|file| key("file", &file.path)).collect(),
            author: key("author", &person.to_lowercase()),
            id: wire.id,
            repository: wire.repository.id,
        })
    }

    /// M2's probability.
    #[must_use]
    pub fn m2(&self) -> f64 {
        risk::m2(self.added, self.prior)
    }

    /// The numbers that a model judges by, given what was known before this commit.
    #[must_use]
    pub fn features(&self, past: impl Fn(i64) -> Option<Past>) -> Features {
        let (mut changes, mut fixes, mut days) = (0.0, 0.0, 0.0);
        for file in &self.files {
            let Some(past) = past(*file) else { continue };
            changes += log1p(past.changes);
            fixes += f64::from(past.fixes) / f64::from(past.changes.max(1));
            // Below zero only where a clock was wrong.
            let seconds = (self.time - past.last).max(0);
            days += libm::log1p(seconds as f64 / 86_400.0);
        }
        let listed = self.files.len().max(1) as f64;
        let count = |number: u64| libm::log1p(number as f64);
        [
            count(self.added),
            count(self.prior),
            count(self.deleted),
            count(self.files_total as u64),
            changes / listed,
            fixes / listed,
            days / listed,
            past(self.author).map_or(0.0, |past| log1p(past.changes)),
        ]
    }

    /// What the commit adds to the past of its files and its author.
    pub fn advance(&self, mut update: impl FnMut(i64, &dyn Fn(Past) -> Past)) {
        for key in self.files.iter().chain([&self.author]) {
            update(*key, &|past| Past {
                changes: past.changes.saturating_add(1),
                fixes: past.fixes.saturating_add(u32::from(self.fix)),
                last: past.last.max(self.time),
            });
        }
    }
}

fn log1p(number: u32) -> f64 {
    libm::log1p(f64::from(number))
}

fn lines(value: f64) -> u64 {
    // Written from a `u32` in `risk`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^32")]
    let whole = value.clamp(0.0, f64::from(u32::MAX)) as u64;
    whole
}

/// Half of a SHA-256's first 16 bytes: the standard library's hash may change between versions.
fn key(what: &str, name: &str) -> i64 {
    let hash = Sha256::digest(format!("{what}\0{name}"));
    let mut bytes = [0_u8; 8];
    bytes.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(bytes)
}

/// Words of a message that say that something was broken, and of one that fixes nothing that could have
/// harmed anybody.
const FIXES: &[&str] = &[
    "fix",
    "fixes",
    "fixed",
    "fixing",
    "bugfix",
    "hotfix",
    "bug",
    "bugs",
    "defect",
    "fault",
    "crash",
    "crashes",
    "regression",
    "npe",
    "deadlock",
    "leak",
    "leaks",
    "error",
    "errors",
    "fail",
    "fails",
    "failed",
    "failing",
    "failure",
    "failures",
    "exception",
    "exceptions",
    "incorrect",
    "incorrectly",
    "wrong",
    "wrongly",
    "broken",
    "problem",
    "hang",
    "hangs",
    "race",
    "overflow",
    "corrupt",
    "corrupted",
    "corruption",
];
const HARMLESS: &[&str] = &[
    "typo",
    "typos",
    "javadoc",
    "javadocs",
    "checkstyle",
    "whitespace",
    "spelling",
    "lint",
    "warning",
    "warnings",
    "readme",
    "docs",
    "documentation",
    "comment",
    "comments",
    "formatting",
    "indentation",
    "license",
    "flaky",
];

/// Whether a message says that its commit mends a defect. By the words of its first line, as in the SZZ
/// family; a fix that does not say so is missed, which costs labels and not their truth.
#[must_use]
pub fn is_fix(message: &str) -> bool {
    let subject = message.lines().next().unwrap_or_default().to_lowercase();
    let words = || subject.split(|c: char| !c.is_ascii_alphanumeric());
    words().any(|word| FIXES.contains(&word)) && !words().any(|word| HARMLESS.contains(&word))
}

/// How a repository's commits are spread over M2's probability, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    below: Vec<u64>,
    total: u64,
}

/// Fewer commits give no percentile: of a hundred, one is a whole point.
pub const ENOUGH: u64 = 100;

impl Distribution {
    /// From how many commits have which probability, in thousandths.
    #[must_use]
    pub fn new(counts: impl IntoIterator<Item = (u16, u64)>) -> Self {
        let mut below = vec![0_u64; 1002];
        for (thousandths, commits) in counts {
            below[usize::from(thousandths.min(1000)) + 1] += commits;
        }
        for at in 1..below.len() {
            below[at] += below[at - 1];
        }
        Self { total: below[1001], below }
    }

    /// Which share of the commits, in percent with one decimal, has a lower probability; half of those that
    /// have the same count. None where too few commits are known ([`ENOUGH`]).
    #[must_use]
    pub fn percentile(&self, thousandths: u16) -> Option<f64> {
        if self.total < ENOUGH {
            return None;
        }
        let at = usize::from(thousandths.min(1000));
        let rank = (self.below[at] + self.below[at + 1]) as f64 / 2.0;
        Some(libm::round(1000.0 * rank / self.total as f64) / 10.0)
    }
}

/// A probability in thousandths, as it is kept.
#[must_use]
pub fn thousandths(probability: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let whole = libm::round(probability.clamp(0.0, 1.0) * 1000.0) as u16;
    whole
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    pub(super) fn record(id: &str) -> serde_json::Value {
        serde_json::json!({
            "id": id, "repository": {"id": "r1"}, "parents": ["p"], "timestamp": "2024-01-03T00:00:00Z",
            "author": {"name": "Ada", "email": "Ada@example.com"}, "message": "Fix the pump\n\ndocs",
            "riskFactors": [{"factor": "prior-lines", "value": 300.0, "contribution": 0.1}],
            "filesChanged": [
                {"path": "a.c", "status": "M", "insertions": 7, "deletions": 1, "kind": "source"},
                {"path": "a.md", "status": "M", "insertions": 3, "deletions": 0, "kind": "doc"}],
            "stats": {"files": 2, "insertions": 10, "deletions": 1},
        })
    }

    #[test]
    fn a_change_is_read_from_its_record() {
        let change = Change::from_record(record("c").to_string().as_bytes()).unwrap();
        assert!((change.m2() - 0.2738).abs() < 0.000_05, "{}", change.m2());
        assert_eq!((change.files_total, change.fix, change.merge), (2, true, false));
        assert_eq!(change.time, 1_704_240_000);
        assert!(Change::from_record(b"{}").is_err());
    }

    #[test]
    fn features_know_the_past_and_nothing_else() {
        let change = Change::from_record(record("c").to_string().as_bytes()).unwrap();
        let fresh = change.features(|_| None);
        assert_eq!(fresh[4..], [0.0; 4]);
        let mut pasts = Pasts::new();
        change.advance(|key, next| {
            let past = pasts.entry(key).or_default();
            *past = next(*past);
        });
        assert_eq!(pasts.len(), 3);
        let later = Change { time: change.time + 86_400, ..change };
        let known = later.features(|key| pasts.get(&key).copied());
        let one = core::f64::consts::LN_2;
        for (found, expected) in known[4..].iter().zip([one, 1.0, one, one]) {
            assert!((found - expected).abs() < 1e-12, "{known:?}");
        }
        assert_eq!(known[..4], fresh[..4]);
    }

    #[test]
    fn fixes_say_so_in_their_first_line() {
        for message in ["Fix overflow", "[AMQ-7] BUG: wrong unit", "hotfix"] {
            assert!(is_fix(message), "{message}");
        }
        for message in ["Add prefix", "Fix typo", "fixtures for tests", "Add a page\n\nfix", ""] {
            assert!(!is_fix(message), "{message}");
        }
    }

    #[test]
    fn a_percentile_is_a_mid_rank_and_needs_a_hundred_commits() {
        let few = Distribution::new([(100, 99)]);
        assert_eq!(few.percentile(100), None);
        let many = Distribution::new([(51, 50), (500, 100), (1000, 50)]);
        assert_eq!(many.percentile(51), Some(12.5));
        assert_eq!(many.percentile(500), Some(50.0));
        assert_eq!(many.percentile(499), Some(25.0));
        assert_eq!(many.percentile(1000), Some(87.5));
    }
}
