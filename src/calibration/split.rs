//! Fitting without a look into the future: the older commits fit, the newer ones judge.
//!
//! A fix tells afterwards that an earlier commit brought a defect in. The older part is labelled with what was
//! known at the split only: a fix that came later says nothing about it. The newer part is labelled with all
//! fixes. Its last commits have had little time to be found out, which lowers both models' figures alike.
//!
//! Nor have the last ones before the split: they would teach that what is usual lately (long-lived files,
//! experienced authors) is harmless. The newest fifth of the older part is therefore left out of the fit.
//!
//! How far the weights may leave M2's is decided within the older part: fitted on the first two thirds of it
//! with each of four penalties, judged by the last third.

use super::{Evaluation, Features, Model, evaluate};

/// The share of commits that fit; the rest is held back.
const OLDER: f64 = 0.75;
/// The share of the older commits that have had time to be found out.
const SETTLED: f64 = 0.8;
/// The share of those that fits while the penalty is chosen by the rest.
const INNER: f64 = 2.0 / 3.0;
/// From the one that trusts the history least.
const PENALTIES: [f64; 4] = [1000.0, 100.0, 10.0, 1.0];
/// Least commits, and least of either label in either part, for figures that mean anything.
const LEAST_COMMITS: usize = 200;
const LEAST_OF_EACH: usize = 20;

/// One commit of the history; samples are in the order of history, oldest first.
#[derive(Clone, Debug)]
pub struct Sample {
    /// By what was known before it.
    pub features: Features,
    /// M2's probability.
    pub m2: f64,
    /// The place in history of the first fix that mended what it brought in.
    pub fixed_at: Option<usize>,
    /// Its own place in history.
    pub at: usize,
}

/// What came of a fit.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Fitted on the older part.
    pub model: Model,
    /// The place in history of the first commit that is held back.
    pub split: usize,
    /// Commits that fitted.
    pub older: usize,
    /// Of those, known at the split to have brought a defect in.
    pub older_defects: usize,
    /// M2 on the newer part.
    pub m2: Evaluation,
    /// The model on the newer part.
    pub calibrated: Evaluation,
}

impl Fitted {
    /// Whether the model ranks the commits that it has not seen better than M2 does.
    #[must_use]
    pub fn beats_m2(&self) -> bool {
        self.calibrated.auc > self.m2.auc
    }
}

/// Too few commits, or too few with or without a defect, in one of the parts.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{commits} commits, of which {older_defects} of the older and {newer_defects} of the newer part are known to have brought a defect in: at least {LEAST_COMMITS} commits and {LEAST_OF_EACH} of either kind in either part are needed"
)]
pub struct TooLittle {
    /// Commits other than merges.
    pub commits: usize,
    /// Of the older part, with a defect.
    pub older_defects: usize,
    /// Of the newer part, with a defect.
    pub newer_defects: usize,
}

/// Fits on the older part and evaluates on the newer one.
///
/// # Errors
/// Where the history is too short.
pub fn fit(samples: &[Sample]) -> Result<Fitted, TooLittle> {
    let (older, newer) = samples.split_at(share(samples.len(), OLDER));
    let split = newer.first().map_or(0, |sample| sample.at);
    let rows: Vec<(Features, bool)> = older[..share(older.len(), SETTLED)]
        .iter()
        .map(|sample| (sample.features, sample.fixed_at.is_some_and(|fixed| fixed < split)))
        .collect();
    let older_defects = rows.iter().filter(|(_, label)| *label).count();
    let newer_defects = newer.iter().filter(|sample| sample.fixed_at.is_some()).count();
    let counts = [older_defects, rows.len() - older_defects, newer_defects, newer.len() - newer_defects];
    if samples.len() < LEAST_COMMITS || counts.iter().any(|count| *count < LEAST_OF_EACH) {
        return Err(TooLittle { commits: samples.len(), older_defects, newer_defects });
    }
    let model = Model::fit(&rows, penalty(&rows));
    let judged = |score: &dyn Fn(&Sample) -> f64| {
        evaluate(&newer.iter().map(|s| (score(s), s.fixed_at.is_some())).collect::<Vec<_>>())
    };
    let m2 = judged(&|sample| sample.m2);
    let calibrated = judged(&|sample| model.probability(&sample.features));
    Ok(Fitted { split, older: rows.len(), older_defects, m2, calibrated, model })
}

/// The penalty with which the first part of the rows tells most about the rest; of equal ones the largest.
fn penalty(rows: &[(Features, bool)]) -> f64 {
    let (first, rest) = rows.split_at(share(rows.len(), INNER));
    let auc = |penalty: f64| {
        let model = Model::fit(first, penalty);
        let pairs: Vec<_> =
            rest.iter().map(|(features, label)| (model.probability(features), *label)).collect();
        evaluate(&pairs).auc.unwrap_or(0.5)
    };
    let mut best = (PENALTIES[0], auc(PENALTIES[0]));
    for other in PENALTIES.into_iter().skip(1) {
        let reached = auc(other);
        if reached > best.1 {
            best = (other, reached);
        }
    }
    best.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn share(length: usize, part: f64) -> usize {
    (length as f64 * part) as usize
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::super::FEATURES;
    use super::*;

    /// Every third commit is risky, which only the fifth number tells; `fixed` says when that came out.
    fn history(count: usize, fixed: impl Fn(usize) -> usize) -> Vec<Sample> {
        (0..count)
            .map(|at| {
                let mut features = [0.0; FEATURES];
                features[0] = (at % 7) as f64;
                features[5] = (at % 3) as f64;
                let fixed_at = (at % 3 == 2).then(|| fixed(at));
                Sample { features, m2: (at % 7) as f64 / 7.0, fixed_at, at }
            })
            .collect()
    }

    #[test]
    fn what_the_repository_knows_beats_size() {
        let fitted = fit(&history(400, |at| at + 5)).unwrap();
        assert!(fitted.beats_m2());
        assert!(fitted.calibrated.auc.unwrap() > 0.99 && fitted.m2.auc.unwrap() < 0.6, "{fitted:?}");
    }

    #[test]
    fn fixes_after_the_split_label_nothing_before_it() {
        // All defects of the older part come out after the split: nothing is known there to fit.
        let error = fit(&history(400, |at| at + 300)).unwrap_err();
        assert_eq!((error.commits, error.older_defects), (400, 0));
        assert!(error.newer_defects > 20);
    }

    #[test]
    fn a_short_history_fits_nothing() {
        assert!(fit(&history(100, |at| at + 1)).is_err());
        assert!(fit(&[]).is_err());
    }
}
