//! The update of a whole store: clipping, the optimizer's rule, max-norm.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::loss_scale::{self, LossScale};
use distil_gpu_kernels::max_norm::MaxNorm;
use distil_gpu_kernels::optimizer::{Factor, Optimizer, Rule};

use super::gradients::Gradients;
use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Recompute, Tensor, TensorId};
use crate::layout::{ALIGNMENT, Layout, ParameterSpec, Part, StorePart};
use crate::plan::Precision;

/// How a store's parameters are updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// The optimizer.
    pub rule: Rule,
    /// Weight decay of the parameters that decay.
    pub weight_decay: f32,
    /// Bound on the global gradient norm.
    pub clip: Option<f32>,
    /// Bound on the L2 norm of each unit's incoming weights (each row of a matrix).
    pub max_norm: Option<f32>,
}

/// How fast one parameter learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Factor of the learning rate; 0 leaves the parameter as it is.
    pub lr_scale: f32,
    /// Weight decay in the place of the optimizer's, if the parameter decays.
    pub weight_decay: Option<f32>,
}

impl Rate {
    /// As the rest.
    pub const WHOLE: Self = Self { lr_scale: 1.0, weight_decay: None };

    /// Whether the parameter stays as it is.
    pub fn is_frozen(&self) -> bool {
        self.lr_scale == 0.0
    }
}

/// How the parameters of a store are updated.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The optimizer.
    pub config: OptimizerConfig,
    /// Rate of each parameter; none where all are [`Rate::WHOLE`].
    pub rates: Vec<Rate>,
    /// How the numbers of the training lie in memory; of mixed ones, the loss is scaled.
    pub precision: Precision,
    /// Whether the labels' loss of each example has a weight, which the plans of batches then read.
    pub weighted: bool,
    /// Share of the labels' loss that is spread over all classes.
    pub smoothing: f32,
    /// What the backward pass makes again.
    pub recompute: Recompute,
}

impl From<OptimizerConfig> for Update {
    fn from(config: OptimizerConfig) -> Self {
        let (precision, recompute) = (Precision::F32, Recompute::None);
        Self { config, rates: Vec::new(), precision, weighted: false, smoothing: 0.0, recompute }
    }
}

impl Update {
    /// How fast parameter `index` learns.
    pub fn rate(&self, index: usize) -> Rate {
        self.rates.get(index).copied().unwrap_or(Rate::WHOLE)
    }

    /// Whether the loss is scaled.
    fn scales(&self) -> bool {
        self.precision == Precision::Mixed
    }

    /// Whether the norm of the gradients is needed: to bound it, or to see whether they are numbers.
    fn needs_norm(&self) -> bool {
        self.config.clip.is_some() || self.scales()
    }

    /// Which of these parameters learn.
    pub fn trained(&self, parameters: &[ParameterSpec]) -> Vec<usize> {
        let learns = |index: &usize| parameters[*index].learns() && !self.rate(*index).is_frozen();
        (0..parameters.len()).filter(learns).collect()
    }
}

/// Updates a store from the gradients of all its parameters that learn, its inputs in the parameters' order;
/// without inputs, from the gradients that the store has, which are 0 afterwards.
/// Outputs, with clipping or a scaled loss: partial sums of squares, and [squared norm, factor of the gradients], behind
/// which lie Adam's corrections where the loss is scaled.
#[derive(Clone, Debug)]
pub struct OptimizerStep {
    /// The store.
    pub store: usize,
    /// How.
    pub update: Update,
    /// The parameters that learn.
    trained: Vec<usize>,
    /// Where they lie: runs of neighbours that are treated alike, in order.
    runs: Vec<Run>,
    gradients: Gradients,
}

/// Neighbouring parameters that are treated alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub segment: usize,
    pub offset: usize,
    /// Elements, alignment gaps included: they hold zeros and stay zero.
    pub len: usize,
    lr_scale: f32,
    weight_decay: f32,
}

/// The runs of a layout, those that stay as they are left out.
pub(super) fn runs(layout: &Layout, update: &Update) -> Vec<Run> {
    let run = |index: usize| {
        let (spec, place, rate) =
            (&layout.parameters[index], layout.places[index], update.rate(index));
        let decay = rate.weight_decay.unwrap_or(update.config.weight_decay);
        Run {
            segment: place.segment,
            offset: place.offset,
            len: spec.len().next_multiple_of(ALIGNMENT),
            lr_scale: if spec.learns() { rate.lr_scale } else { 0.0 },
            weight_decay: if spec.decay { decay } else { 0.0 },
        }
    };
    let mut runs: Vec<Run> = (0..layout.parameters.len()).map(run).collect();
    runs.sort_by_key(|run| (run.segment, run.offset));
    runs.dedup_by(|next, kept| {
        let alike = (next.segment, next.lr_scale, next.weight_decay)
            == (kept.segment, kept.lr_scale, kept.weight_decay);
        kept.len += if alike { next.len } else { 0 };
        alike
    });
    runs.retain(|run| run.lr_scale != 0.0);
    runs
}

/// Of the outputs, with clipping.
const NORM: usize = 1;

impl OptimizerStep {
    fn part(&self, part: Part, segment: usize, offset: usize, len: usize) -> ArgRef {
        ArgRef::Store { part: StorePart { store: self.store, part, segment }, offset, len }
    }

    fn lower_update(&self) -> Vec<Lowered> {
        let rule = self.update.config.rule;
        let factor = match (self.update.needs_norm(), self.update.scales()) {
            (false, _) => Factor::One,
            (true, false) => Factor::Clip,
            (true, true) => Factor::ClipAndUnscale,
        };
        let update = |run: &Run| {
            let &Run { segment, offset, len, lr_scale, weight_decay } = run;
            let kernel = Optimizer { rule, len, lr_scale, weight_decay, factor };
            let view = |part| self.part(part, segment, offset, len);
            let moments = [Part::Moment1, Part::Moment2].into_iter().take(rule.moments());
            let mut args = vec![view(Part::Parameters), view(Part::Gradients)];
            args.extend(moments.map(view));
            if factor != Factor::One {
                args.push(ArgRef::Output(NORM));
            }
            Lowered::new(kernel, args)
        };
        self.runs.iter().map(update).collect()
    }

    fn lower_loss_scale(&self) -> Lowered {
        let OptimizerConfig { rule, clip, .. } = self.update.config;
        let betas = match rule {
            Rule::Sgd { .. } => [0.0; 2],
            Rule::Adam { beta1, beta2, .. } | Rule::AdamW { beta1, beta2, .. } => [beta1, beta2],
        };
        let max_norm = clip.unwrap_or(loss_scale::UNBOUNDED);
        let kernel = LossScale { max_norm, interval: loss_scale::INTERVAL, betas };
        let scale = self.part(Part::LossScale, 0, 0, loss_scale::LEN);
        Lowered::new(kernel, vec![ArgRef::Output(NORM), scale])
    }

    fn lower_max_norm(&self, layout: &Layout, bound: f32) -> Vec<Lowered> {
        let trained = self.trained.iter();
        let trained = trained.map(|&index| (&layout.parameters[index], &layout.places[index]));
        trained
            .filter(|(parameter, _)| parameter.shape.len() == 2)
            .map(|(parameter, place)| {
                let (rows, cols) = (parameter.shape[0], parameter.shape[1]);
                let weights = self.part(Part::Parameters, place.segment, place.offset, rows * cols);
                Lowered::new(MaxNorm { rows, cols, bound }, vec![weights])
            })
            .collect()
    }
}

impl Op for OptimizerStep {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        if inputs.iter().any(|gradient| gradient.dtype != DType::F32) {
            return Err(mismatch(self.name(), inputs, "the gradients of a store"));
        }
        Ok(match self.update.needs_norm() {
            true => self.gradients.norm_shapes(self.update.scales()),
            false => Vec::new(),
        })
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let OptimizerConfig { clip, max_norm, .. } = self.update.config;
        let mut calls = match self.update.needs_norm() {
            true => self.gradients.norm(clip.unwrap_or(loss_scale::UNBOUNDED)),
            false => Vec::new(),
        };
        if self.update.scales() {
            calls.push(self.lower_loss_scale());
        }
        calls.extend(self.lower_update());
        if let Some(bound) = max_norm {
            calls.extend(self.lower_max_norm(&site.stores[self.store], bound));
        }
        if site.inputs.is_empty() {
            calls.extend(self.gradients.clear());
        }
        Ok(calls)
    }

    fn gradients_of(&self) -> Option<usize> {
        Some(self.store)
    }

    fn parameter_of(&self, input: usize) -> usize {
        self.trained[input]
    }

    fn has_effect(&self) -> bool {
        true
    }
}

impl Graph {
    /// Updates a store at each run; `gradients` in the order of its parameters, of those that learn. Without any,
    /// the store's own are taken, which [`Graph::add_to`] sums, and set to 0.
    ///
    /// # Errors
    /// [`Error::Shape`] for gradients that are integers.
    pub fn optimize(
        &mut self,
        store: usize,
        gradients: &[TensorId],
        update: impl Into<Update>,
    ) -> Result<(), Error> {
        let (layout, update) = (&self.stores[store], update.into());
        let trained = update.trained(&layout.parameters);
        let runs = runs(layout, &update);
        let places = runs.iter().map(|run| (run.segment, run.offset, run.len));
        let sums = Gradients::new(store, places);
        let step = OptimizerStep { store, update, trained, runs, gradients: sums };
        self.add(Arc::new(step), gradients).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Init;

    #[test]
    fn neighbours_that_are_alike_are_one_launch() {
        let spec = |(index, decay): (usize, &bool)| ParameterSpec {
            name: index.to_string(),
            shape: vec![ALIGNMENT],
            decay: *decay,
            init: Init::Constant(0.0),
        };
        let specs = [true, false, true, false, true].iter().enumerate().map(spec).collect();
        let layout = Layout::new(specs).unwrap();
        let config = OptimizerConfig {
            rule: Rule::Sgd { momentum: 0.0, nesterov: false },
            weight_decay: 0.5,
            clip: None,
            max_norm: None,
        };
        let of = |weight_decay, rates: &[(f32, Option<f32>)]| {
            let rate = |&(lr_scale, weight_decay)| Rate { lr_scale, weight_decay };
            let config = OptimizerConfig { weight_decay, ..config };
            let rates = rates.iter().map(rate).collect();
            let update = Update { rates, ..config.into() };
            let runs = runs(&layout, &update);
            runs.iter()
                .map(|r| (r.offset / ALIGNMENT, r.len / ALIGNMENT, r.lr_scale, r.weight_decay))
                .collect::<Vec<_>>()
        };
        // In memory: 0, 2, 4, then 1, 3.
        assert_eq!(of(0.0, &[]), [(0, 5, 1.0, 0.0)]);
        assert_eq!(of(0.5, &[]), [(0, 3, 1.0, 0.5), (3, 2, 1.0, 0.0)]);
        let half = (0.5, None);
        assert_eq!(of(0.0, &[half, half, half, half, half]), [(0, 5, 0.5, 0.0)]);
        let (frozen, whole) = ((0.0, None), (1.0, None));
        assert_eq!(
            of(0.5, &[frozen, frozen, whole, whole, whole]),
            [(1, 2, 1.0, 0.5), (4, 1, 1.0, 0.0)]
        );
        let other = (1.0, Some(0.25));
        assert_eq!(
            of(0.5, &[whole, whole, whole, other, other]),
            [(0, 2, 1.0, 0.5), (2, 1, 1.0, 0.25), (3, 2, 1.0, 0.0)]
        );
    }
}
