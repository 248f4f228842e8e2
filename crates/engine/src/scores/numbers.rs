//! How near predicted numbers are to those they are to meet.

use super::correlation::{pearson, spearman};

/// How near predictions of one number are to the true ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The root of the mean squared error, in the number's own unit.
    pub rmse: f64,
    /// The mean absolute error, in the number's own unit.
    pub mae: f64,
    /// The coefficient of determination, R²: 1 less the sum of squared errors over that of the true numbers' distances
    /// from their mean; at most 1, and 0 for predictions of that mean. None where the true numbers do not vary.
    pub r2: Option<f64>,
    /// Pearson's correlation; none where the true or the predicted numbers do not vary.
    pub pearson: Option<f64>,
    /// Spearman's correlation, of the ranks; none where the true or the predicted numbers do not vary.
    pub spearman: Option<f64>,
}

impl Fit {
    /// Of predictions and the true numbers, one of each for every example; none without examples.
    ///
    /// # Panics
    /// When there are more of one than of the other.
    pub fn of(predicted: &[f64], truth: &[f64]) -> Option<Self> {
        assert_eq!(predicted.len(), truth.len(), "a prediction for every number");
        if truth.is_empty() {
            return None;
        }
        let count = truth.len() as f64;
        let errors = || predicted.iter().zip(truth).map(|(predicted, truth)| predicted - truth);
        let squares = errors().map(|error| error * error).sum::<f64>();
        let mean = truth.iter().sum::<f64>() / count;
        let spread = truth.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Some(Self {
            rmse: (squares / count).sqrt(),
            mae: errors().map(f64::abs).sum::<f64>() / count,
            r2: (spread > 0.0).then(|| 1.0 - squares / spread),
            pearson: pearson(predicted, truth),
            spearman: spearman(predicted, truth),
        })
    }

    /// Of predictions and true numbers [rows, width], for each of the `width` numbers; none without rows.
    ///
    /// # Panics
    /// When there are more of one than of the other, or they are no whole rows.
    pub fn of_each(predicted: &[f32], truth: &[f32], width: usize) -> Vec<Self> {
        assert!(width > 0 && truth.len().is_multiple_of(width), "rows of {width} numbers");
        let column = |values: &[f32], column: usize| -> Vec<f64> {
            values.iter().skip(column).step_by(width).map(|value| f64::from(*value)).collect()
        };
        assert_eq!(predicted.len(), truth.len(), "a prediction for every number");
        (0..width)
            .filter_map(|name| Self::of(&column(predicted, name), &column(truth, name)))
            .collect()
    }

    /// The mean of each measure over several numbers, as scikit-learn's `uniform_average`; of R² and correlations over
    /// those that have one. None of none.
    pub fn mean(fits: &[Self]) -> Option<Self> {
        let mean = |values: Vec<f64>| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let of = |value: fn(&Self) -> Option<f64>| mean(fits.iter().filter_map(value).collect());
        Some(Self {
            rmse: of(|fit| Some(fit.rmse))?,
            mae: of(|fit| Some(fit.mae))?,
            r2: of(|fit| fit.r2),
            pearson: of(|fit| fit.pearson),
            spearman: of(|fit| fit.spearman),
        })
    }
}
