//! `[train]` and `[teacher.train]`: how a model is trained.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::rules::{COUNT, FEW, NAME, POSITIVE, POSITIVE_SHARE, SHIFT, SIZE};
use super::{ClassWeights, Group, Optimizer, Schedule};
use crate::plan::Precision;

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Train {
    /// For how long.
    #[serde(flatten)]
    pub length: Length,
    /// Examples that are in memory at once; 128 unless given.
    pub batch: usize,
    /// Batches of a step, their gradients summed; 1 unless given.
    pub accumulate: usize,
    /// Each training image is moved by up to so many pixels either way; 0 unless given.
    pub shift: u32,
    /// The most that the L2 norm of all gradients together may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f32>,
    /// The most that the L2 norm of a unit's incoming weights may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_norm: Option<f32>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The learning rate's schedule.
    pub schedule: Schedule,
    /// The model is measured after every so many steps, and after the last; after each epoch unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_every: Option<u32>,
    /// Which parameters the training ends with; the last unless given.
    pub keep: Keep,
    /// What the best are best in, a score of the task or [`LOSS`]; the task's first unless given. Absent where the last
    /// are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_by: Option<String>,
    /// The training ends after so many measurements in a row that were no better than the best before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// How the numbers of the training lie in memory; that of the whole recipe.
    #[serde(skip)]
    pub precision: Precision,
    /// What the learning rate is multiplied by from each layer to the one below; 1 unless given.
    pub layer_decay: f32,
    /// How much the labels' loss of each class counts; all alike unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Parameters that are trained otherwise; each is of the first group that matches its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// Which parameters a training ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those that did best on the validation data.
    Best,
    /// Those of the last step.
    Last,
}

/// What `best_by` is for a lower cross-entropy with the labels, whatever the task.
pub const LOSS: &str = "loss";

/// How long a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Passes over the training data.
    Epochs(u32),
    /// Steps.
    Steps(u32),
}

impl Length {
    /// The number of steps, an epoch having `steps_per_epoch`.
    pub fn total_steps(self, steps_per_epoch: u32) -> u32 {
        match self {
            Self::Epochs(epochs) => epochs.saturating_mul(steps_per_epoch),
            Self::Steps(steps) => steps,
        }
    }
}

impl Train {
    /// Examples of a batch, of so many there are.
    pub fn rows(&self, examples: usize) -> usize {
        self.batch.min(examples)
    }

    /// Examples of a step: of one batch, or of several whose gradients are summed.
    pub fn step_rows(&self, examples: usize) -> usize {
        self.batch.saturating_mul(self.accumulate).min(examples)
    }

    /// Steps of a pass over so many examples.
    pub fn steps_per_epoch(&self, examples: usize) -> u32 {
        examples.div_ceil(self.step_rows(examples)) as u32
    }

    pub(super) fn read(table: &Table<'_>, precision: Precision) -> Result<Self, RecipeError> {
        table.known(&[
            "epochs",
            "steps",
            "batch",
            "accumulate",
            "shift",
            "clip",
            "max_norm",
            "optimizer",
            "schedule",
            "evaluate_every",
            "keep",
            "best_by",
            "patience",
            "layer_decay",
            "class_weights",
            "groups",
        ])?;
        let optimizer = table.table("optimizer")?.map(|table| Optimizer::read(&table));
        let schedule = table.table("schedule")?.map(|table| Schedule::read(&table));
        let keep = table.choice("keep", &[("best", Keep::Best), ("last", Keep::Last)])?;
        let best_by = table.get("best_by", &NAME)?;
        if keep != Some(Keep::Best) {
            for key in ["best_by", "patience"] {
                if table.has(key) {
                    let problem =
                        format!("`{key}` goes with keep = \"best\": set that, or leave it out");
                    return Err(table.conflict(key, problem));
                }
            }
        }
        let train = Self {
            length: Length::read(table)?,
            batch: table.get("batch", &SIZE)?.unwrap_or(128),
            accumulate: table.get("accumulate", &FEW)?.unwrap_or(1),
            shift: table.get("shift", &SHIFT)?.unwrap_or(0),
            clip: table.get("clip", &POSITIVE)?,
            max_norm: table.get("max_norm", &POSITIVE)?,
            optimizer: optimizer.transpose()?.unwrap_or_default(),
            schedule: schedule.transpose()?.unwrap_or_default(),
            evaluate_every: table.get("evaluate_every", &COUNT)?,
            keep: keep.unwrap_or(Keep::Last),
            best_by,
            patience: table.get("patience", &COUNT)?,
            precision,
            layer_decay: table.get("layer_decay", &POSITIVE_SHARE)?.unwrap_or(1.0),
            class_weights: ClassWeights::read(table)?,
            groups: table.tables("groups")?.iter().map(Group::read).collect::<Result<_, _>>()?,
        };
        let warmup = train.schedule.warmup_steps();
        match train.length {
            Length::Steps(steps) if warmup >= steps => Err(table.conflict(
                "schedule",
                format!("a `warmup_steps` of {warmup} must be below `steps`, which is {steps}"),
            )),
            _ => Ok(train),
        }
    }
}

impl Length {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        match (table.get("epochs", &COUNT)?, table.get("steps", &COUNT)?) {
            (Some(epochs), None) => Ok(Self::Epochs(epochs)),
            (None, Some(steps)) => Ok(Self::Steps(steps)),
            (Some(_), Some(_)) => {
                Err(table.conflict("steps", "give `epochs` or `steps`, not both: leave one out"))
            }
            (None, None) => Err(table.lacks("`epochs` or `steps`", COUNT.allowed)),
        }
    }
}
