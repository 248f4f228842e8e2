//! The update of a whole store: clipping, the optimizer's rule, max-norm.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::chain::{Chain, Stage};
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::grad_norm::{GradNormFinish, GradNormPartial};
use distil_gpu_kernels::max_norm::MaxNorm;
use distil_gpu_kernels::optimizer::{Optimizer, Rule};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::store::{ALIGNMENT, Layout, Part, StorePart};

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

/// Updates a store from the gradients of all its parameters, its inputs in the parameters' order; without
/// inputs, from the gradients that the store has, which are 0 afterwards.
/// Outputs, with clipping: partial sums of squares, and [squared norm, clip factor].
#[derive(Clone, Debug)]
pub struct OptimizerStep {
    /// The store.
    pub store: usize,
    /// How.
    pub config: OptimizerConfig,
    /// Elements of each of the store's segments.
    pub segments: Vec<usize>,
}

const PARTIALS: usize = 0;
const NORM: usize = 1;

impl OptimizerStep {
    fn part(&self, part: Part, segment: usize, offset: usize, len: usize) -> ArgRef {
        ArgRef::Store { part: StorePart { store: self.store, part, segment }, offset, len }
    }

    /// First partial sum and number of them, for each segment.
    fn partials(&self) -> Vec<(usize, GradNormPartial)> {
        let mut first = 0;
        let place = |&len: &usize| {
            let mut kernel = GradNormPartial::new(len);
            // No gap between the segments' shares: all of the array is summed.
            kernel.partials = kernel.partials.next_multiple_of(ALIGNMENT);
            let at = first;
            first += kernel.partials;
            (at, kernel)
        };
        self.segments.iter().map(place).collect()
    }

    /// Partial sums of all segments.
    fn partials_len(&self) -> usize {
        let partials = self.partials();
        partials.last().map_or(0, |(first, kernel)| first + kernel.partials)
    }

    fn lower_clip(&self, max_norm: f32) -> Vec<Lowered> {
        let mut calls: Vec<Lowered> = self
            .partials()
            .into_iter()
            .enumerate()
            .map(|(segment, (offset, kernel))| {
                let grads = self.part(Part::Gradients, segment, 0, kernel.len);
                let len = kernel.partials;
                Lowered::new(
                    kernel,
                    vec![grads, ArgRef::OutputPart { output: PARTIALS, offset, len }],
                )
            })
            .collect();
        let finish = GradNormFinish { partials: self.partials_len(), max_norm };
        calls.push(Lowered::new(finish, vec![ArgRef::Output(PARTIALS), ArgRef::Output(NORM)]));
        calls
    }

    fn lower_update(&self, layout: &Layout) -> Vec<Lowered> {
        let decays = self.config.weight_decay != 0.0;
        let mut calls: Vec<Lowered> = Vec::new();
        let mut ranges = layout.ranges.clone();
        if !decays {
            // All alike: one launch a segment.
            ranges.dedup_by(|next, kept| {
                let same = next.segment == kept.segment;
                if same {
                    kept.len += next.len;
                }
                same
            });
        }
        for range in ranges {
            let kernel = Optimizer {
                rule: self.config.rule,
                len: range.len,
                lr_scale: 1.0,
                weight_decay: if range.decay { self.config.weight_decay } else { 0.0 },
                clip: self.config.clip.is_some(),
            };
            let view = |part| self.part(part, range.segment, range.offset, range.len);
            let moments = [Part::Moment1, Part::Moment2].into_iter().take(kernel.rule.moments());
            let mut args = vec![view(Part::Parameters), view(Part::Gradients)];
            args.extend(moments.map(view));
            if kernel.clip {
                args.push(ArgRef::Output(NORM));
            }
            calls.push(Lowered::new(kernel, args));
        }
        calls
    }

    /// Sets the gradients to 0, for the next sums.
    fn lower_clear(&self) -> Vec<Lowered> {
        let clear = |(segment, &len): (usize, &usize)| {
            let kernel = Elementwise {
                extent: [1, 1, 1, len as u32],
                main_strides: None,
                chain: Chain { stages: vec![Stage::Fill(0.0)], operands: Vec::new() },
            };
            Lowered::new(kernel, vec![self.part(Part::Gradients, segment, 0, len)])
        };
        self.segments.iter().enumerate().map(clear).collect()
    }

    fn lower_max_norm(&self, layout: &Layout, bound: f32) -> Vec<Lowered> {
        let matrices =
            layout.parameters.iter().zip(&layout.places).filter(|(p, _)| p.shape.len() == 2);
        matrices
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
        Ok(match self.config.clip {
            Some(_) => vec![vec![self.partials_len()], vec![2]],
            None => Vec::new(),
        })
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let layout = &site.stores[self.store];
        let mut calls = self.config.clip.map_or_else(Vec::new, |bound| self.lower_clip(bound));
        calls.extend(self.lower_update(layout));
        if let Some(bound) = self.config.max_norm {
            calls.extend(self.lower_max_norm(layout, bound));
        }
        if site.inputs.is_empty() {
            calls.extend(self.lower_clear());
        }
        Ok(calls)
    }

    fn gradients_of(&self) -> Option<usize> {
        Some(self.store)
    }

    fn has_effect(&self) -> bool {
        true
    }
}

impl Graph {
    /// Updates a store at each run; `gradients` in the order of its parameters. Without any, the store's own
    /// are taken, which [`Graph::add_to`] sums, and set to 0.
    ///
    /// # Errors
    /// [`Error::Shape`] for gradients that are integers.
    pub fn optimize(
        &mut self,
        store: usize,
        gradients: &[TensorId],
        config: OptimizerConfig,
    ) -> Result<(), Error> {
        let segments = self.stores[store].segments.clone();
        self.add(Arc::new(OptimizerStep { store, config, segments }), gradients).map(|_| ())
    }
}
