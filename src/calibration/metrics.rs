//! How well probabilities tell what happened.

use serde::{Deserialize, Serialize};

/// Bins of the reliability table.
const BINS: usize = 10;

/// A score against labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Commits.
    pub commits: usize,
    /// Of those, labelled as bringing a defect in.
    pub defects: usize,
    /// The probability that a commit with a defect has a higher score than one without; ties count half.
    /// None where all labels are alike.
    pub auc: Option<f64>,
    /// Mean square of score minus label; lower is better, and knowing only the base rate b gives b(1 − b).
    /// None where there are no commits.
    pub brier: Option<f64>,
    /// Which share of the defects is in the fifth of the commits with the highest scores; a score that
    /// knows nothing has .2. Commits that tie at the border count in proportion.
    pub recall_at_fifth: Option<f64>,
    /// Tenths of the scale that have commits.
    pub bins: Vec<Bin>,
}

/// One row of the reliability table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bin {
    /// The least score.
    pub from: f64,
    /// Commits.
    pub commits: usize,
    /// Their mean score.
    pub predicted: f64,
    /// The share of them that brought a defect in.
    pub observed: f64,
}

/// Compares scores (0 to 1) with labels. The order of the pairs does not matter.
#[must_use]
pub fn evaluate(pairs: &[(f64, bool)]) -> Evaluation {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let defects = sorted.iter().filter(|(_, label)| *label).count();
    let squares: f64 = sorted.iter().map(|(p, label)| (p - truth(*label)) * (p - truth(*label))).sum();
    Evaluation {
        commits: sorted.len(),
        defects,
        auc: auc(&sorted),
        brier: (!sorted.is_empty()).then(|| squares / sorted.len() as f64),
        recall_at_fifth: (defects > 0).then(|| found_in(&sorted, sorted.len() as f64 / 5.0) / defects as f64),
        bins: bins(&sorted),
    }
}

fn truth(label: bool) -> f64 {
    f64::from(u8::from(label))
}

/// Runs of equal scores, highest first: how many with and how many without a defect.
fn ties(sorted: &[(f64, bool)]) -> impl Iterator<Item = (f64, f64)> {
    sorted.chunk_by(|a, b| a.0 == b.0).map(|run| {
        let with = run.iter().filter(|(_, label)| *label).count();
        (with as f64, (run.len() - with) as f64)
    })
}

fn auc(sorted: &[(f64, bool)]) -> Option<f64> {
    let (mut above, mut won, mut without) = (0.0, 0.0, 0.0);
    for (with, lacking) in ties(sorted) {
        won += lacking * (above + with / 2.0);
        above += with;
        without += lacking;
    }
    let pairs = above * without;
    (pairs > 0.0).then(|| won / pairs)
}

/// Expected number of defects among the first `take` commits.
fn found_in(sorted: &[(f64, bool)], take: f64) -> f64 {
    let (mut left, mut found) = (take, 0.0);
    for (with, without) in ties(sorted) {
        let share = (left / (with + without)).min(1.0);
        found += share * with;
        left -= share * (with + without);
        if left <= 0.0 {
            break;
        }
    }
    found
}

fn bins(sorted: &[(f64, bool)]) -> Vec<Bin> {
    let mut sums = [(0_usize, 0.0, 0.0); BINS];
    for (p, label) in sorted {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
        let at = ((p.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1);
        sums[at].0 += 1;
        sums[at].1 += p;
        sums[at].2 += truth(*label);
    }
    let rows = sums.iter().enumerate().filter(|(_, (commits, ..))| *commits > 0);
    rows.map(|(at, &(commits, p, labels))| Bin {
        from: at as f64 / BINS as f64,
        commits,
        predicted: p / commits as f64,
        observed: labels / commits as f64,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn auc_counts_pairs() {
        let pairs = [(0.9, true), (0.8, false), (0.7, true), (0.1, false)];
        assert_eq!(evaluate(&pairs).auc, Some(0.75));
        assert_eq!(evaluate(&[(0.5, true), (0.5, false)]).auc, Some(0.5));
        assert_eq!(evaluate(&[(0.5, true)]).auc, None);
        assert_eq!(evaluate(&[]).auc, None);
    }

    #[test]
    fn the_riskiest_fifth_and_the_bins_are_what_they_say() {
        let mut pairs: Vec<(f64, bool)> = (0..100).map(|n| (f64::from(n) / 100.0, n >= 90)).collect();
        let found = evaluate(&pairs);
        assert_eq!((found.auc, found.recall_at_fifth), (Some(1.0), Some(1.0)));
        assert_eq!((found.bins.len(), found.bins[9].observed, found.bins[0].observed), (10, 1.0, 0.0));
        pairs.iter_mut().for_each(|pair| pair.0 = 0.3);
        let blind = evaluate(&pairs);
        assert!((blind.recall_at_fifth.unwrap() - 0.2).abs() < 1e-12);
        assert!((blind.brier.unwrap() - (0.09 * 0.9 + 0.49 * 0.1)).abs() < 1e-12);
    }

    proptest::proptest! {
        #[test]
        fn auc_is_that_of_all_pairs(pairs in proptest::collection::vec((0_u8..20, proptest::bool::ANY), 0..60)) {
            let pairs: Vec<(f64, bool)> = pairs.into_iter().map(|(p, label)| (f64::from(p) / 20.0, label)).collect();
            let (mut won, mut all) = (0.0, 0.0);
            for a in pairs.iter().filter(|pair| pair.1) {
                for b in pairs.iter().filter(|pair| !pair.1) {
                    all += 1.0;
                    won += if a.0 > b.0 { 1.0 } else if a.0 == b.0 { 0.5 } else { 0.0 };
                }
            }
            let found = evaluate(&pairs).auc.unwrap_or(f64::NAN);
            let expected: f64 = won / all;
            proptest::prop_assert!((found - expected).abs() < 1e-9 || all == 0.0);
        }
    }
}
