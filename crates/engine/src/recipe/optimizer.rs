//! `optimizer = { … }`: how gradients become steps.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::rules::{BELOW_ONE, BETA, FLAG, NOT_NEGATIVE, POSITIVE};

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
        let kinds: [(&str, Reader); 3] = [
            ("sgd", |table| Sgd::read(table).map(Self::Sgd)),
            ("adam", |table| Adam::read(table).map(Self::Adam)),
            ("adamw", |table| Adam::read(table).map(Self::AdamW)),
        ];
        table.need_choice("name", &kinds)?(table)
    }
}

/// Gradient descent at 0.05 with a momentum of 0.9.
impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd(Sgd { lr: 0.05, momentum: 0.9, nesterov: false, weight_decay: 0.0 })
    }
}

impl Sgd {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&["name", "lr", "momentum", "nesterov", "weight_decay"])?;
        let sgd = Self {
            lr: table.need("lr", &POSITIVE)?,
            momentum: table.get("momentum", &BELOW_ONE)?.unwrap_or(0.9),
            nesterov: table.get("nesterov", &FLAG)?.unwrap_or(false),
            weight_decay: table.get("weight_decay", &NOT_NEGATIVE)?.unwrap_or(0.0),
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
        table.known(&["name", "lr", "beta1", "beta2", "eps", "weight_decay"])?;
        Ok(Self {
            lr: table.need("lr", &POSITIVE)?,
            beta1: table.get("beta1", &BETA)?.unwrap_or(0.9),
            beta2: table.get("beta2", &BETA)?.unwrap_or(0.999),
            eps: table.get("eps", &POSITIVE)?.unwrap_or(1e-8),
            weight_decay: table.get("weight_decay", &NOT_NEGATIVE)?.unwrap_or(0.0),
        })
    }
}
