//! Logistic regression by Newton's method, with a penalty on the squares by which the weights leave M2's.
//!
//! M2 was fitted on a hundred thousand commits of other repositories; the own history has a few hundred with a
//! noisy label. So M2 is where the fit begins, and what the history says against it has to be worth the penalty.
//!
//! Eight numbers and an intercept need no library: each step solves nine equations. Numbers are first brought to
//! mean 0 and deviation 1, so that one penalty fits all of them. Twenty-five steps are the most; six are usual.

use serde::{Deserialize, Serialize};

use super::{FEATURES, Features};
use crate::risk;

const STEPS: usize = 25;
/// Steps smaller than this change no third decimal.
const STILL: f64 = 1e-8;
const SIZE: usize = FEATURES + 1;

/// A fitted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    mean: Features,
    deviation: Features,
    weights: Features,
    intercept: f64,
}

impl Model {
    /// Fits the labels (`true`: a defect came in) to the numbers. A penalty of n weighs about as much as
    /// 4 n commits.
    pub(super) fn fit(rows: &[(Features, bool)], penalty: f64) -> Self {
        let (mean, deviation) = spread(rows);
        let mut m2 = [0.0; FEATURES];
        (m2[0], m2[1]) = (risk::BY_ADDED * deviation[0], risk::BY_PRIOR * deviation[1]);
        let mut model = Self { mean, deviation, weights: m2, intercept: 0.0 };
        for _ in 0..STEPS {
            let (mut gradient, mut curvature) = ([0.0; SIZE], [[0.0; SIZE]; SIZE]);
            for (features, label) in rows {
                let scaled = model.scaled(features);
                let p = model.probability(features);
                let (error, weight) = (f64::from(u8::from(*label)) - p, p * (1.0 - p));
                for (i, a) in scaled.iter().enumerate() {
                    gradient[i] += error * a;
                    for (j, b) in scaled.iter().enumerate().take(i + 1) {
                        curvature[i][j] += weight * a * b;
                    }
                }
            }
            for i in 0..FEATURES {
                gradient[i] -= penalty * (model.weights[i] - m2[i]);
                curvature[i][i] += penalty;
            }
            // Where all labels are alike the intercept's curvature vanishes.
            curvature[FEATURES][FEATURES] += 1e-9;
            let step = solve(curvature, gradient);
            for (weight, change) in model.weights.iter_mut().zip(step) {
                *weight += change;
            }
            model.intercept += step[FEATURES];
            if step.iter().all(|change| change.abs() < STILL) {
                break;
            }
        }
        model
    }

    /// The probability that a change with these numbers brings a defect in.
    #[must_use]
    pub fn probability(&self, features: &Features) -> f64 {
        let scaled = self.scaled(features);
        let sum: f64 = self.weights.iter().zip(scaled).map(|(weight, value)| weight * value).sum();
        1.0 / (1.0 + libm::exp(-(sum + self.intercept)))
    }

    /// How much each number weighs per standard deviation, in the order of [`super::NAMES`].
    #[must_use]
    pub fn weights(&self) -> &Features {
        &self.weights
    }

    /// Mean 0, deviation 1, and the intercept's 1 at the end.
    fn scaled(&self, features: &Features) -> [f64; SIZE] {
        let mut scaled = [1.0; SIZE];
        for at in 0..FEATURES {
            scaled[at] = (features[at] - self.mean[at]) / self.deviation[at];
        }
        scaled
    }
}

fn spread(rows: &[(Features, bool)]) -> (Features, Features) {
    let count = rows.len().max(1) as f64;
    let (mut mean, mut deviation) = ([0.0; FEATURES], [0.0; FEATURES]);
    for at in 0..FEATURES {
        mean[at] = rows.iter().map(|(features, _)| features[at]).sum::<f64>() / count;
        let squares: f64 =
            rows.iter().map(|(features, _)| (features[at] - mean[at]) * (features[at] - mean[at])).sum();
        let found = libm::sqrt(squares / count);
        // A number that never changes says nothing.
        deviation[at] = if found > 1e-9 { found } else { 1.0 };
    }
    (mean, deviation)
}

/// Solves the symmetric positive system given by its lower half, by Cholesky's decomposition.
fn solve(mut matrix: [[f64; SIZE]; SIZE], mut right: [f64; SIZE]) -> [f64; SIZE] {
    for i in 0..SIZE {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - sum;
            matrix[i][j] = if i == j { libm::sqrt(rest.max(1e-12)) } else { rest / matrix[j][j] };
        }
    }
    for i in 0..SIZE {
        let sum: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i][i];
    }
    for i in (0..SIZE).rev() {
        let sum: f64 = (i + 1..SIZE).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// Labels drawn from a known model.
    fn drawn(count: usize) -> Vec<(Features, bool)> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..count)
            .map(|_| {
                let mut features = [0.0; FEATURES];
                features.fill_with(|| random.f64() * 4.0);
                let p = 1.0 / (1.0 + libm::exp(-(-3.0 + 1.5 * features[0] - 0.5 * features[5])));
                (features, random.f64() < p)
            })
            .collect()
    }

    #[test]
    fn finds_the_model_that_drew_the_labels() {
        let model = Model::fit(&drawn(20_000), 1.0);
        // Per unit, not per deviation.
        let slope = |at: usize| model.weights[at] / model.deviation[at];
        assert!((slope(0) - 1.5).abs() < 0.06, "{}", slope(0));
        assert!((slope(5) + 0.5).abs() < 0.06, "{}", slope(5));
        assert!(slope(1).abs() < 0.06 && slope(7).abs() < 0.06, "{model:?}");
    }

    #[test]
    fn is_deterministic_and_survives_being_written_down() {
        let rows = drawn(500);
        let model = Model::fit(&rows, 1.0);
        assert_eq!(model, Model::fit(&rows, 1.0));
        let text = serde_json::to_string(&model).unwrap();
        assert_eq!(serde_json::from_str::<Model>(&text).unwrap(), model);
    }

    #[test]
    fn a_large_penalty_leaves_m2s_ranking() {
        let model = Model::fit(&drawn(500), 1e9);
        let (few, many) = ([1.0; FEATURES], [2.0; FEATURES]);
        let step = |p: f64| libm::log(p / (1.0 - p));
        let slope = step(model.probability(&many)) - step(model.probability(&few));
        assert!((slope - risk::BY_ADDED - risk::BY_PRIOR).abs() < 1e-4, "{slope}");
    }

    #[test]
    fn stays_finite_where_labels_are_alike_or_separated() {
        let alike: Vec<_> = drawn(50).into_iter().map(|(features, _)| (features, false)).collect();
        let apart: Vec<_> =
            drawn(50).into_iter().map(|(features, _)| (features, features[0] > 2.0)).collect();
        for rows in [alike, apart, Vec::new()] {
            let p = Model::fit(&rows, 1.0).probability(&[1.0; FEATURES]);
            assert!(p.is_finite() && (0.0..=1.0).contains(&p), "{p}");
        }
    }
}
