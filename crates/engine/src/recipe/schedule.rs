//! `schedule = { … }`: the learning rate over a training.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys, word};
use super::rules::{COUNT, FRACTION, NOT_NEGATIVE, STEPS};

keys! {
    /// The learning rate over a training.
    SCHEDULE in "train.schedule";

    /// The full rate to the end, half a cosine or a straight line towards `final_lr`, or falls every so many epochs.
    NAME: Reader = word("name", || vec![
        ("constant", constant as Reader),
        ("cosine", cosine),
        ("linear", linear),
        ("step", step),
    ])
        .needed()
        .like("\"linear\"")
        .also(&["schedule_name", "schedule_type"]);
    /// Steps over which the rate climbs to the full one.
    WARMUP_STEPS: u32 = key("warmup_steps", STEPS)
        .or("0")
        .like("100")
        .hint("a number of steps")
        .also(&[
            "warmup",
            "warmup_ratio",
            "warmup_proportion",
            "num_warmup_steps",
            "warmup_epochs",
            "lr_warmup_steps",
            "warm_up_steps",
        ]);
}

keys! {
    /// A fall towards a last rate.
    DECAY_TO in "train.schedule" where name is "cosine" | "linear";

    /// The rate that the end of training would reach.
    FINAL_LR: f32 = key("final_lr", NOT_NEGATIVE)
        .or("0.0")
        .like("1e-5")
        .also(&["min_lr", "eta_min", "end_lr", "lr_end", "final_learning_rate"]);
}

keys! {
    /// Falls every so many epochs.
    STEPWISE in "train.schedule" where name is "step";

    /// Epochs between two falls.
    EVERY: u32 = key("every", COUNT)
        .needed()
        .like("20")
        .hint("in epochs")
        .also(&["lr_step_size", "decay_epochs", "milestones", "lr_decay_epochs"]);
    /// What each fall multiplies the rate by.
    FACTOR: f32 = key("factor", FRACTION)
        .or("0.1")
        .like("0.1")
        .also(&["gamma", "lr_gamma", "decay_factor", "decay_rate", "lr_decay"]);
}

/// A learning-rate schedule: a linear warm-up, then a decay. Every kind has `warmup_steps`, the number of
/// steps over which the rate climbs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Schedule {
    /// The full rate to the end.
    Constant {
        /// Steps of warm-up.
        warmup_steps: u32,
    },
    /// Half a cosine from the full rate towards `final_lr` (Loshchilov and Hutter, "SGDR", 2017,
    /// without restarts).
    Cosine {
        /// Steps of warm-up.
        warmup_steps: u32,
        /// The rate that the end of training would reach.
        final_lr: f32,
    },
    /// A straight line from the full rate towards `final_lr`.
    Linear {
        /// Steps of warm-up.
        warmup_steps: u32,
        /// The rate that the end of training would reach.
        final_lr: f32,
    },
    /// The full rate times `factor` for each `every` epochs gone by, counted from the first step.
    Step {
        /// Steps of warm-up.
        warmup_steps: u32,
        /// Epochs between two falls.
        every: u32,
        /// What each fall multiplies the rate by, in [0, 1].
        factor: f32,
    },
}

type Reader = fn(&Table<'_>) -> Result<Schedule, RecipeError>;

impl Schedule {
    /// The learning rate of step `step` of `total_steps`, counted from 0, the full rate being `base_lr`.
    ///
    /// During warm-up it climbs evenly from `base_lr / warmup_steps` to `base_lr`. The decay runs over the
    /// steps left: the first of them has the full rate, and the step after the last would have the final
    /// one, so that no step is wasted at a rate of 0.
    pub fn lr(&self, step: u32, total_steps: u32, steps_per_epoch: u32, base_lr: f32) -> f32 {
        let warmup = self.warmup_steps();
        if step < warmup {
            return base_lr * ((f64::from(step) + 1.0) / f64::from(warmup)) as f32;
        }
        let left = total_steps.saturating_sub(warmup).max(1);
        let progress = (f64::from(step - warmup) / f64::from(left)).min(1.0);
        let towards = |final_lr: f32, share: f64| {
            (f64::from(final_lr) + (f64::from(base_lr) - f64::from(final_lr)) * share) as f32
        };
        match *self {
            Self::Constant { .. } => base_lr,
            Self::Cosine { final_lr, .. } => {
                towards(final_lr, 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()))
            }
            Self::Linear { final_lr, .. } => towards(final_lr, 1.0 - progress),
            Self::Step { every, factor, .. } => {
                let falls = step / steps_per_epoch.max(1) / every.max(1);
                (f64::from(base_lr) * f64::from(factor).powf(f64::from(falls))) as f32
            }
        }
    }

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> u32 {
        match *self {
            Self::Constant { warmup_steps }
            | Self::Cosine { warmup_steps, .. }
            | Self::Linear { warmup_steps, .. }
            | Self::Step { warmup_steps, .. } => warmup_steps,
        }
    }

    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.value(&NAME)?(table)
    }
}

/// A cosine to 0 without warm-up.
impl Default for Schedule {
    fn default() -> Self {
        Self::Cosine { warmup_steps: 0, final_lr: 0.0 }
    }
}

fn constant(table: &Table<'_>) -> Result<Schedule, RecipeError> {
    table.known(&[&SCHEDULE])?;
    Ok(Schedule::Constant { warmup_steps: table.value(&WARMUP_STEPS)? })
}

fn cosine(table: &Table<'_>) -> Result<Schedule, RecipeError> {
    table.known(&[&SCHEDULE, &DECAY_TO])?;
    let warmup_steps = table.value(&WARMUP_STEPS)?;
    Ok(Schedule::Cosine { warmup_steps, final_lr: table.value(&FINAL_LR)? })
}

fn linear(table: &Table<'_>) -> Result<Schedule, RecipeError> {
    table.known(&[&SCHEDULE, &DECAY_TO])?;
    let warmup_steps = table.value(&WARMUP_STEPS)?;
    Ok(Schedule::Linear { warmup_steps, final_lr: table.value(&FINAL_LR)? })
}

fn step(table: &Table<'_>) -> Result<Schedule, RecipeError> {
    table.known(&[&SCHEDULE, &STEPWISE])?;
    let warmup_steps = table.value(&WARMUP_STEPS)?;
    Ok(Schedule::Step { warmup_steps, every: table.value(&EVERY)?, factor: table.value(&FACTOR)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: &Schedule, total_steps: u32, steps_per_epoch: u32) -> Vec<f32> {
        (0..total_steps).map(|step| schedule.lr(step, total_steps, steps_per_epoch, 0.8)).collect()
    }

    #[track_caller]
    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn warms_up_then_stays() {
        let schedule = Schedule::Constant { warmup_steps: 4 };
        near(&rates(&schedule, 6, 1), &[0.2, 0.4, 0.6, 0.8, 0.8, 0.8]);
    }

    #[test]
    fn cosine_halves_in_the_middle_and_nears_its_end() {
        let schedule = Schedule::Cosine { warmup_steps: 0, final_lr: 0.2 };
        near(&rates(&schedule, 4, 1), &[0.8, 0.712_132, 0.5, 0.287_868]);
        assert_eq!(schedule.lr(4, 4, 1, 0.8), 0.2);
        let warm = Schedule::Cosine { warmup_steps: 2, final_lr: 0.0 };
        near(&rates(&warm, 4, 1), &[0.4, 0.8, 0.8, 0.4]);
    }

    #[test]
    fn linear_falls_evenly() {
        let schedule = Schedule::Linear { warmup_steps: 1, final_lr: 0.0 };
        near(&rates(&schedule, 5, 1), &[0.8, 0.8, 0.6, 0.4, 0.2]);
    }

    #[test]
    fn step_falls_with_the_epochs() {
        let schedule = Schedule::Step { warmup_steps: 0, every: 2, factor: 0.1 };
        let found = rates(&schedule, 10, 2);
        near(&found, &[0.8, 0.8, 0.8, 0.8, 0.08, 0.08, 0.08, 0.08, 0.008, 0.008]);
    }

    #[test]
    fn odd_lengths_stay_finite() {
        let all = [
            Schedule::Constant { warmup_steps: 9 },
            Schedule::Cosine { warmup_steps: 9, final_lr: 0.0 },
            Schedule::Linear { warmup_steps: 9, final_lr: 0.0 },
            Schedule::Step { warmup_steps: 9, every: 1, factor: 0.5 },
        ];
        for schedule in all {
            for (step, total) in [(0, 0), (8, 9), (9, 9), (40, 9), (u32::MAX, 1)] {
                let rate = schedule.lr(step, total, 0, 0.8);
                assert!((0.0..=0.8).contains(&rate), "{schedule:?} gives {rate}");
            }
        }
    }
}
