//! `[train]` and `[teacher.train]`: how a model is trained.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{Nested, key, keys, list, nested, word};
use super::rules::{BELOW_ONE, COUNT, FEW, NAME, POSITIVE, POSITIVE_SHARE, SHIFT, SIZE};
use super::weights::WEIGHING;
use super::{ClassWeights, Group, Optimizer, Schedule};
use crate::graph::Recompute;
use crate::plan::Precision;

keys! {
    /// How both students are trained: alone, and with the teacher.
    TRAIN in "train";

    /// Passes over the training data; give these or `steps`.
    EPOCHS: u32 = key("epochs", COUNT)
        .like("60")
        .also(&["num_train_epochs", "num_epochs", "n_epochs", "n_epoch", "max_epochs", "nb_epochs"]);
    /// In the place of `epochs`.
    STEPS: u32 = key("steps", COUNT)
        .like("1000")
        .also(&[
            "max_steps",
            "num_steps",
            "num_train_steps",
            "num_training_steps",
            "total_steps",
            "iterations",
            "max_iters",
        ]);
    /// Examples that are in memory at once.
    BATCH: usize = key("batch", SIZE)
        .or("128")
        .like("64")
        .also(&[
            "batch_size",
            "bs",
            "batchsize",
            "train_batch_size",
            "per_device_train_batch_size",
            "per_gpu_train_batch_size",
            "mini_batch_size",
        ]);
    /// A step is so many batches, their gradients summed: as a larger batch, in less memory.
    ACCUMULATE: usize = key("accumulate", FEW)
        .or("1")
        .like("4")
        .also(&[
            "gradient_accumulation_steps",
            "accumulate_grad_batches",
            "grad_accum",
            "accumulation_steps",
            "grad_accumulation",
        ]);
    /// What the backward pass makes again instead of keeping it: with "layers", models of texts keep the hidden states between
    /// their layers alone, for less memory and about a third more work.
    RECOMPUTE: Recompute = word("recompute", || vec![("none", Recompute::None), ("layers", Recompute::Layers)])
        .or("\"none\"")
        .like("\"layers\"")
        .also(&[
            "gradient_checkpointing",
            "activation_checkpointing",
            "checkpoint_activations",
            "use_gradient_checkpointing",
        ]);
    /// Each picture is moved by up to so many pixels, either way.
    SHIFTED: u32 = key("shift", SHIFT)
        .or("0")
        .like("1")
        .hint("in pixels")
        .also(&["random_crop", "augment", "augmentation", "jitter", "random_shift"]);
    /// Bound on the norm of all gradients together.
    CLIP: f32 = key("clip", POSITIVE)
        .otherwise("none")
        .like("1.0")
        .also(&[
            "max_grad_norm",
            "gradient_clip_val",
            "grad_clip",
            "gradient_clipping",
            "clip_norm",
            "clip_grad_norm",
            "grad_norm_clip",
            "clipnorm",
        ]);
    /// Bound on the norm of each unit's incoming weights.
    MAX_NORM: f32 = key("max_norm", POSITIVE)
        .otherwise("none")
        .like("3.5")
        .also(&["max_weight_norm", "weight_constraint"]);
    /// How gradients become steps.
    OPTIMIZER_TABLE: Nested = nested("optimizer", "a table")
        .otherwise("{ name = \"sgd\", lr = 0.05, momentum = 0.9 }")
        .like("{ name = \"adamw\", lr = 1e-3 }")
        .hint("as { name = \"adamw\", lr = 1e-3 }")
        .also(&["optim", "optimiser", "opt"]);
    /// The learning rate over the training.
    SCHEDULE_TABLE: Nested = nested("schedule", "a table")
        .otherwise("{ name = \"cosine\" }")
        .like("{ name = \"cosine\", warmup_steps = 100 }")
        .hint("as { name = \"cosine\", warmup_steps = 100 }")
        .also(&["scheduler", "lr_scheduler", "lr_scheduler_type", "lr_schedule", "learning_rate_schedule"]);
    /// Steps between measurements of the model.
    EVALUATE_EVERY: u32 = key("evaluate_every", COUNT)
        .otherwise("after each epoch")
        .like("100")
        .hint("in steps")
        .also(&[
            "eval_steps",
            "eval_every",
            "eval_interval",
            "val_check_interval",
            "evaluation_strategy",
            "eval_strategy",
        ]);
    /// The parameters that the training ends with: those that did best on data.validation, or the last.
    KEEP: Keep = word("keep", || vec![("best", Keep::Best), ("last", Keep::Last)])
        .or("\"last\"")
        .like("\"best\"")
        .hint("\"best\" or \"last\"")
        .also(&[
            "load_best_model_at_end",
            "save_best",
            "save_best_only",
            "restore_best_weights",
            "keep_best",
        ]);
    /// With keep = "best": the score of the task that the best are best in, as "accuracy", "macro_f1" or "matthews" of
    /// classes; or "loss", the lowest cross-entropy with the labels, for all models alike.
    BEST_BY: String = key("best_by", NAME)
        .otherwise("the task's first score")
        .like("\"accuracy\"")
        .also(&["metric_for_best_model", "monitor", "best_metric"]);
    /// With keep = "best": ends the training after so many measurements in a row without a better one.
    PATIENCE: u32 = key("patience", COUNT)
        .otherwise("never")
        .like("5")
        .also(&["early_stopping_patience", "early_stopping"]);
    /// Each layer learns at so many times the rate of the one above.
    LAYER_DECAY: f32 = key("layer_decay", POSITIVE_SHARE)
        .or("1.0")
        .like("0.9")
        .also(&["layerwise_lr_decay", "llrd", "layer_lr_decay", "lr_layer_decay"]);
    /// Share of each label that is spread evenly over all classes, in training alone; what is measured are the labels themselves.
    LABEL_SMOOTHING: f32 = key("label_smoothing", BELOW_ONE)
        .or("0.0")
        .like("0.1")
        .also(&["label_smoothing_factor", "smoothing", "label_smooth"]);
}

keys! {
    /// Parameters that are trained otherwise than the rest.
    GROUPED in "train";

    /// The first that matches counts.
    GROUPS: Nested = list("groups")
        .otherwise("none")
        .like("[{ match = \"classifier\", lr = 1e-3 }, { match = \"*embeddings*\", lr = 0.0 }]")
        .also(&["param_groups", "parameter_groups"]);
}

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
    /// What the backward pass makes again; nothing unless given.
    #[serde(skip_serializing_if = "Recompute::is_none")]
    pub recompute: Recompute,
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
    /// Share of each label that is spread over all classes; none unless given.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_smoothing: f32,
    /// How much the labels' loss of each class counts; all alike unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Parameters that are trained otherwise; each is of the first group that matches its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

fn is_zero(number: &f32) -> bool {
    *number == 0.0
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
        table.known(&[&TRAIN, &WEIGHING, &GROUPED])?;
        let optimizer = table.table(&OPTIMIZER_TABLE)?.map(|table| Optimizer::read(&table));
        let schedule = table.table(&SCHEDULE_TABLE)?.map(|table| Schedule::read(&table));
        let keep = table.value(&KEEP)?;
        let best_by = table.get(&BEST_BY)?;
        if keep != Keep::Best {
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
            batch: table.value(&BATCH)?,
            accumulate: table.value(&ACCUMULATE)?,
            recompute: table.value(&RECOMPUTE)?,
            shift: table.value(&SHIFTED)?,
            clip: table.get(&CLIP)?,
            max_norm: table.get(&MAX_NORM)?,
            optimizer: optimizer.transpose()?.unwrap_or_default(),
            schedule: schedule.transpose()?.unwrap_or_default(),
            evaluate_every: table.get(&EVALUATE_EVERY)?,
            keep,
            best_by,
            patience: table.get(&PATIENCE)?,
            precision,
            layer_decay: table.value(&LAYER_DECAY)?,
            label_smoothing: table.value(&LABEL_SMOOTHING)?,
            class_weights: ClassWeights::read(table)?,
            groups: table.tables(&GROUPS)?.iter().map(Group::read).collect::<Result<_, _>>()?,
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
        match (table.get(&EPOCHS)?, table.get(&STEPS)?) {
            (Some(epochs), None) => Ok(Self::Epochs(epochs)),
            (None, Some(steps)) => Ok(Self::Steps(steps)),
            (Some(_), Some(_)) => {
                Err(table.conflict("steps", "give `epochs` or `steps`, not both: leave one out"))
            }
            (None, None) => Err(table.lacks("`epochs` or `steps`", COUNT.allowed)),
        }
    }
}
