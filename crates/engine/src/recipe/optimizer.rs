//! `optimizer = { … }`: how gradients become steps.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys, word};
use super::rules::{BELOW_ONE, BETA, FLAG, NOT_NEGATIVE, POSITIVE};

keys! {
    /// How gradients become steps.
    OPTIMIZER in "train.optimizer";

    /// Gradient descent with momentum, Adam, or Adam with weight decay apart from the gradient.
    NAME: Reader = word("name", || vec![
        ("sgd", sgd as Reader),
        ("adam", adam),
        ("adamw", adamw),
    ])
        .needed()
        .like("\"adamw\"")
        .hint("\"sgd\", \"adam\" or \"adamw\"")
        .also(&["optimizer_name", "optimizer_type"]);
    /// Learning rate before any schedule.
    LR: f32 = key("lr", POSITIVE)
        .needed()
        .like("1e-3")
        .also(&[
            "learning_rate",
            "learningrate",
            "base_lr",
            "max_lr",
            "peak_lr",
            "init_lr",
            "eta",
            "step_size",
        ]);
}

keys! {
    /// Gradient descent.
    SGD in "train.optimizer" where name is "sgd";

    /// Share of the last step that is kept.
    MOMENTUM: f32 = key("momentum", BELOW_ONE).or("0.9").like("0.9").also(&["sgd_momentum"]);
    /// Whether the gradient is taken as if the momentum had moved the weights already.
    NESTEROV: bool = key("nesterov", FLAG).or("false").like("true").also(&["use_nesterov"]);
}

keys! {
    /// Adam, and AdamW.
    ADAM in "train.optimizer" where name is "adam" | "adamw";

    /// Decay of the mean of gradients.
    BETA1: f64 = key("beta1", BETA)
        .or("0.9")
        .like("0.9")
        .hint("with `beta2` beside it")
        .also(&["betas", "adam_beta1", "adam_betas"]);
    /// Decay of the mean of squared gradients.
    BETA2: f64 = key("beta2", BETA).or("0.999").like("0.999").also(&["adam_beta2"]);
    /// Added to the root of the mean square.
    EPS: f32 = key("eps", POSITIVE).or("1e-8").like("1e-8").also(&["epsilon", "adam_epsilon", "adam_eps"]);
}

keys! {
    /// Every optimizer.
    DECAY in "train.optimizer";

    /// Weight decay of weights, not of biases and norms; with "sgd" and "adam" it is added to the gradient.
    WEIGHT_DECAY: f32 = key("weight_decay", NOT_NEGATIVE)
        .or("0.0")
        .like("0.01")
        .also(&["wd", "decay", "l2", "weightdecay", "l2_reg", "weight_decay_rate"]);
}

/// An optimizer with its settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Optimizer {
    /// Gradient descent with momentum.
    Sgd(Sgd),
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// Adam with weight decay apart from the gradient.
    AdamW(Adam),
}

/// Settings of gradient descent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sgd {
    /// Learning rate, above 0.
    pub lr: f32,
    /// Share of the last step that is kept, in [0, 1); 0.9 unless given.
    pub momentum: f32,
    /// Whether the gradient is taken as if the momentum had moved the weights already.
    pub nesterov: bool,
    /// Weight decay, added to the gradient; 0 unless given.
    pub weight_decay: f32,
}

/// Settings of Adam and AdamW.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Adam {
    /// Learning rate, above 0.
    pub lr: f32,
    /// Decay of the mean of gradients, in [0, 1); 0.9 unless given.
    pub beta1: f64,
    /// Decay of the mean of squared gradients, in [0, 1); 0.999 unless given.
    pub beta2: f64,
    /// Added to the root of the mean square; 1e-8 unless given.
    pub eps: f32,
    /// Weight decay; 0 unless given.
    pub weight_decay: f32,
}

type Reader = fn(&Table<'_>) -> Result<Optimizer, RecipeError>;

impl Optimizer {
    /// The learning rate before any schedule.
    pub fn lr(&self) -> f32 {
        match self {
            Self::Sgd(sgd) => sgd.lr,
            Self::Adam(adam) | Self::AdamW(adam) => adam.lr,
        }
    }

    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.value(&NAME)?(table)
    }
}

fn sgd(table: &Table<'_>) -> Result<Optimizer, RecipeError> {
    Sgd::read(table).map(Optimizer::Sgd)
}

fn adam(table: &Table<'_>) -> Result<Optimizer, RecipeError> {
    Adam::read(table).map(Optimizer::Adam)
}

fn adamw(table: &Table<'_>) -> Result<Optimizer, RecipeError> {
    Adam::read(table).map(Optimizer::AdamW)
}

/// Gradient descent at 0.05 with a momentum of 0.9.
impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd(Sgd { lr: 0.05, momentum: 0.9, nesterov: false, weight_decay: 0.0 })
    }
}

impl Sgd {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&OPTIMIZER, &SGD, &DECAY])?;
        let sgd = Self {
            lr: table.value(&LR)?,
            momentum: table.value(&MOMENTUM)?,
            nesterov: table.value(&NESTEROV)?,
            weight_decay: table.value(&WEIGHT_DECAY)?,
        };
        if sgd.nesterov && sgd.momentum == 0.0 {
            let problem =
                "`nesterov` needs a `momentum` above 0: give one, or leave `nesterov` out";
            return Err(table.conflict("nesterov", problem));
        }
        Ok(sgd)
    }
}

impl Adam {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&OPTIMIZER, &ADAM, &DECAY])?;
        Ok(Self {
            lr: table.value(&LR)?,
            beta1: table.value(&BETA1)?,
            beta2: table.value(&BETA2)?,
            eps: table.value(&EPS)?,
            weight_decay: table.value(&WEIGHT_DECAY)?,
        })
    }
}
