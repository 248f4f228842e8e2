//! The gradients that a store has: their norm, and how they are set to 0.

use std::sync::Arc;

use distil_gpu_kernels::chain::{Chain, Stage};
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::grad_norm::{GradNormFinish, GradNormPartial};
use distil_gpu_kernels::loss_scale;

use super::optimizer_step::{Update, runs};
use super::{ArgRef, Lowered, Op, Site};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::layout::{ALIGNMENT, Part, StorePart};

/// Where the gradients of a store's parameters that learn lie.
#[derive(Clone, Debug)]
pub(super) struct Gradients {
    store: usize,
    /// The least part of each segment that has them: segment, first element, length.
    spans: Vec<(usize, usize, usize)>,
}

impl Gradients {
    /// Of runs of parameters: segment, first element, length; in order. What lies between two has gradients of 0.
    pub fn new(store: usize, runs: impl Iterator<Item = (usize, usize, usize)>) -> Self {
        let mut spans: Vec<(usize, usize, usize)> = Vec::new();
        for (segment, offset, len) in runs {
            match spans.last_mut() {
                Some((known, start, span)) if *known == segment => *span = offset + len - *start,
                _ => spans.push((segment, offset, len)),
            }
        }
        Self { store, spans }
    }

    fn part(&self, (segment, offset, len): (usize, usize, usize)) -> ArgRef {
        let part = StorePart { store: self.store, part: Part::Gradients, segment };
        ArgRef::Store { part, offset, len }
    }

    /// First partial sum and number of them, for each span.
    fn partials(&self) -> Vec<(usize, GradNormPartial)> {
        let mut first = 0;
        let place = |&(_, _, len): &(usize, usize, usize)| {
            let mut kernel = GradNormPartial::new(len);
            // No gap between the spans' shares: all of the array is summed.
            kernel.partials = kernel.partials.next_multiple_of(ALIGNMENT);
            let at = first;
            first += kernel.partials;
            (at, kernel)
        };
        self.spans.iter().map(place).collect()
    }

    /// Shapes of the outputs that their norm needs: partial sums of squares, and [squared norm, clip factor], with more
    /// behind it where the loss is `scaled`.
    pub fn norm_shapes(&self, scaled: bool) -> Vec<Vec<usize>> {
        let partials = self.partials();
        let len = partials.last().map_or(0, |(first, kernel)| first + kernel.partials);
        vec![vec![len], vec![if scaled { loss_scale::NORM_LEN } else { 2 }]]
    }

    /// Their norm, into outputs 0 and 1 of [`Self::norm_shapes`].
    pub fn norm(&self, max_norm: f32) -> Vec<Lowered> {
        let spans = self.spans.iter().zip(self.partials());
        let partial = spans.map(|(span, (offset, kernel))| {
            let part = ArgRef::OutputPart { output: 0, offset, len: kernel.partials };
            Lowered::new(kernel, vec![self.part(*span), part])
        });
        let finish = GradNormFinish { partials: self.norm_shapes(false)[0][0], max_norm };
        let finish = Lowered::new(finish, vec![ArgRef::Output(0), ArgRef::Output(1)]);
        partial.chain([finish]).collect()
    }

    /// Sets them to 0, for the next sums.
    pub fn clear(&self) -> Vec<Lowered> {
        let clear = |span: &(usize, usize, usize)| {
            let kernel = Elementwise {
                extent: [1, 1, 1, span.2 as u32],
                main_strides: None,
                chain: Chain { stages: vec![Stage::Fill(0.0)], operands: Vec::new() },
            };
            Lowered::new(kernel, vec![self.part(*span)])
        };
        self.spans.iter().map(clear).collect()
    }
}

/// Takes the norm of a store's gradients, and sets them to 0. Outputs: partial sums of squares, and
/// [squared norm, 1].
#[derive(Clone, Debug)]
pub struct TakeNorm {
    gradients: Gradients,
}

impl Op for TakeNorm {
    fn name(&self) -> &'static str {
        "take_norm"
    }

    fn infer(&self, _: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        Ok(self.gradients.norm_shapes(false))
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, _: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        Ok([self.gradients.norm(f32::MAX), self.gradients.clear()].concat())
    }

    fn has_effect(&self) -> bool {
        true
    }
}

impl Graph {
    /// Takes the norm of the gradients that [`Graph::add_to`] summed, of those parameters that learn, and sets them
    /// to 0: [squared norm, 1].
    ///
    /// # Errors
    /// None today; the signature is that of the other builders.
    pub fn take_norm(&mut self, store: usize, update: &Update) -> Result<TensorId, Error> {
        let runs = runs(&self.stores[store], update);
        let runs = runs.iter().map(|run| (run.segment, run.offset, run.len));
        let gradients = Gradients::new(store, runs);
        Ok(self.add(Arc::new(TakeNorm { gradients }), &[])?[1])
    }
}
