//! What features go through before a model sees them.

use serde::{Deserialize, Serialize};

use super::DataError;
use crate::words::counted;

/// (value - mean) / std, after pixels became value / 255.
///
/// Both lists have one number for all, or one a channel of images [C, H, W], or one a feature of rows \[n].
/// A std of 0 is taken as 1, so that a feature that never varies becomes 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations.
    pub std: Vec<f32>,
}

/// A spread this small beside the mean is rounding: f32 tells no smaller one.
const RESOLUTION: f64 = 1e-7;

impl Normalisation {
    /// The one that changes nothing.
    pub fn identity() -> Self {
        Self { mean: vec![0.0], std: vec![1.0] }
    }

    /// Checks that it fits examples of `shape`.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it is of another length, not finite, or has a negative std.
    pub fn check(&self, shape: &[usize]) -> Result<(), DataError> {
        let groups = shape.first().copied().unwrap_or(1);
        let (means, stds) = (self.mean.len(), self.std.len());
        if means != stds || (means != 1 && means != groups) {
            let each = if shape.len() == 3 { "channel" } else { "feature" };
            return Err(DataError::Unfit(format!(
                "a normalisation of {} and {} does not fit examples of {shape:?}: give one of each, or \
                 {groups} of each, one a {each}",
                counted(means, "mean"),
                counted(stds, "std")
            )));
        }
        let finite = self.mean.iter().chain(&self.std).all(|value| value.is_finite());
        if !finite || self.std.iter().any(|std| *std < 0.0) {
            let problem = "a normalisation needs finite means and stds of at least 0";
            return Err(DataError::Unfit(problem.to_owned()));
        }
        Ok(())
    }

    /// Mean and standard deviation of each group of `values`, the rows being of `shape` and a group being
    /// an element of its first dimension.
    pub(super) fn measure<T: Copy>(
        values: &[T],
        shape: &[usize],
        value: impl Fn(T) -> f64,
    ) -> Self {
        let groups = shape[0];
        let plane: usize = shape[1..].iter().product();
        let count = (values.len() / groups) as f64;
        let mut means = vec![0.0_f64; groups];
        for row in values.chunks_exact(groups * plane) {
            for (sum, plane) in means.iter_mut().zip(row.chunks_exact(plane)) {
                *sum += plane.iter().map(|&raw| value(raw)).sum::<f64>();
            }
        }
        means.iter_mut().for_each(|sum| *sum /= count);
        let mut squares = vec![0.0_f64; groups];
        for row in values.chunks_exact(groups * plane) {
            for ((sum, &mean), plane) in squares.iter_mut().zip(&means).zip(row.chunks_exact(plane))
            {
                *sum += plane.iter().map(|&raw| (value(raw) - mean).powi(2)).sum::<f64>();
            }
        }
        let std = squares.iter().zip(&means).map(|(sum, mean)| {
            let std = (sum / count).sqrt();
            if std <= RESOLUTION * mean.abs() { 0.0 } else { std as f32 }
        });
        Self { std: std.collect(), mean: means.iter().map(|&mean| mean as f32).collect() }
    }

    /// The normalisation of each group, `groups` in number, ready to apply.
    pub(super) fn affines(&self, groups: usize) -> Vec<Affine> {
        let at = |list: &[f32], group: usize| if list.len() == 1 { list[0] } else { list[group] };
        (0..groups)
            .map(|group| {
                let std = at(&self.std, group);
                Affine { mean: at(&self.mean, group), std: if std == 0.0 { 1.0 } else { std } }
            })
            .collect()
    }
}

/// The normalisation of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    mean: f32,
    std: f32,
}

impl Affine {
    #[inline]
    pub fn apply(self, value: f32) -> f32 {
        (value - self.mean) / self.std
    }

    #[inline]
    pub fn apply_pixel(self, pixel: u8) -> f32 {
        self.apply(f32::from(pixel) / 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_each_channel() {
        // Two images of two channels of 1 × 2.
        let values = [1.0_f32, 3.0, 10.0, 10.0, 5.0, 7.0, 10.0, 10.0];
        let found = Normalisation::measure(&values, &[2, 1, 2], f64::from);
        assert_eq!(found.mean, [4.0, 10.0]);
        assert_eq!(found.std, [5.0_f32.sqrt(), 0.0]);
    }

    #[test]
    fn a_feature_that_never_varies_has_no_spread() {
        let values = vec![0.1_f32; 1001];
        let found = Normalisation::measure(&values, &[1], f64::from);
        assert_eq!(found, Normalisation { mean: vec![0.1], std: vec![0.0] });
        assert_eq!(found.affines(1)[0].apply(0.1), 0.0);
        assert_eq!(found.affines(1)[0].apply(1.1), 1.0);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let three = Normalisation { mean: vec![0.0; 3], std: vec![1.0; 3] };
        assert!(three.check(&[3, 8, 8]).is_ok());
        assert!(three.check(&[3]).is_ok());
        assert!(Normalisation::identity().check(&[5]).is_ok());
        assert_eq!(
            three.check(&[1, 8, 8]).unwrap_err().to_string(),
            "a normalisation of 3 means and 3 stds does not fit examples of [1, 8, 8]: give one of each, \
             or 1 of each, one a channel"
        );
        let negative = Normalisation { mean: vec![0.0], std: vec![-1.0] };
        assert!(negative.check(&[4]).unwrap_err().to_string().contains("at least 0"));
    }
}
