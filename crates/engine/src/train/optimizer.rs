//! The optimizer that a recipe asks for, and what it keeps.

use distil_gpu_kernels::optimizer::Rule;

use super::rates::rates;
use crate::error::Error;
use crate::graph::ops::{OptimizerConfig, Update};
use crate::layout::Part;
use crate::models::ModelConfig;
use crate::plan::Precision;
use crate::recipe::{self, Optimizer};

/// The update that a recipe asks for, and the betas of its moments (0 where it has none).
pub fn optimizer_config(train: &recipe::Train) -> (OptimizerConfig, [f64; 2]) {
    let (rule, weight_decay, betas) = match &train.optimizer {
        Optimizer::Sgd(sgd) => {
            let rule = Rule::Sgd { momentum: sgd.momentum, nesterov: sgd.nesterov };
            (rule, sgd.weight_decay, [0.0; 2])
        }
        Optimizer::Adam(adam) | Optimizer::AdamW(adam) => {
            let recipe::Adam { beta1, beta2, eps, weight_decay, .. } = *adam;
            let rule = match train.optimizer {
                Optimizer::AdamW(_) => Rule::AdamW { beta1, beta2, eps },
                _ => Rule::Adam { beta1, beta2, eps },
            };
            (rule, weight_decay, [beta1, beta2])
        }
    };
    let config = OptimizerConfig { rule, weight_decay, clip: train.clip, max_norm: train.max_norm };
    (config, betas)
}

/// How a recipe trains the parameters of a model, and the betas of the moments.
///
/// # Errors
/// As [`rates`].
pub fn update(train: &recipe::Train, config: &ModelConfig) -> Result<(Update, [f64; 2]), Error> {
    let (optimizer, betas) = optimizer_config(train);
    let rates = rates(train, &config.model().parameters())?;
    let (weighted, smoothing) = (train.class_weights.is_some(), train.label_smoothing);
    let (precision, recompute) = (train.precision, train.recompute);
    Ok((Update { config: optimizer, rates, precision, weighted, smoothing, recompute }, betas))
}

/// The store's parts that training with these updates needs.
pub fn training_parts(update: &Update) -> Vec<Part> {
    let moments = [Part::Moment1, Part::Moment2].into_iter().take(update.config.rule.moments());
    let scale = (update.precision == Precision::Mixed).then_some(Part::LossScale);
    [Part::Parameters, Part::Gradients].into_iter().chain(moments).chain(scale).collect()
}
