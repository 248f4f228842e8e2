//! What a sweep leaves: `sweep.json`.

use serde::{Deserialize, Serialize};

use super::ArmReport;

/// Name of a sweep's report in its folder.
pub const SWEEP: &str = "sweep.json";

/// The content of `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepReport {
    /// The recipe's name.
    pub name: String,
    /// Keys that were varied, each with its values.
    pub axes: Vec<(String, Vec<String>)>,
    /// Seeds of each combination.
    pub seeds: u32,
    /// The teacher; absent when it is a file of logits that holds none for the test set.
    pub teacher: Option<ArmReport>,
    /// Every combination, the last axis fastest.
    pub points: Vec<SweepPoint>,
    /// The device's name.
    pub device: String,
    /// The device's backend and driver.
    pub backend: String,
    /// Version of this program.
    pub version: String,
    /// Time of all trainings.
    pub seconds: f64,
}

/// A key of the recipe with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As `distil.temperature`.
    pub key: String,
    /// As `4.0`.
    pub value: String,
}

/// One combination of settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The combination.
    pub settings: Vec<Setting>,
    /// Its students, one a seed.
    pub runs: Vec<SweepRun>,
}

/// One student of a sweep, and the same student alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRun {
    /// The seed.
    pub seed: u32,
    /// Its folder in the sweep's.
    pub folder: String,
    /// Its model, as the recipe has it.
    pub model: String,
    /// Share of the test examples on which it gives the teacher's answer.
    pub agreement: Option<f64>,
    /// What was measured of it.
    pub distilled: ArmReport,
    /// What was measured of the student alone, from the same seed.
    pub control: ArmReport,
}

/// Mean and sample standard deviation over the seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; absent for one seed.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of some values, at least one.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()) }
    }
}

impl SweepPoint {
    fn over(&self, value: impl Fn(&SweepRun) -> f64) -> Spread {
        Spread::of(&self.runs.iter().map(value).collect::<Vec<_>>())
    }

    /// Accuracy of the distilled students.
    pub fn accuracy(&self) -> Spread {
        self.over(|run| run.distilled.accuracy)
    }

    /// Accuracy of the students alone.
    pub fn control(&self) -> Spread {
        self.over(|run| run.control.accuracy)
    }

    /// Gain of the distilled students over the students alone, seed by seed.
    pub fn gain(&self) -> Spread {
        self.over(|run| run.distilled.accuracy - run.control.accuracy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_that_of_a_sample() {
        let spread = Spread::of(&[1.0, 2.0, 4.0]);
        assert!((spread.mean - 7.0 / 3.0).abs() < 1e-12);
        assert!((spread.deviation.unwrap() - 1.527_525_231_651_947).abs() < 1e-12);
        assert_eq!(Spread::of(&[3.0]), Spread { mean: 3.0, deviation: None });
    }
}
