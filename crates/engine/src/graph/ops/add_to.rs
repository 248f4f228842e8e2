//! Gradients that add up in a store over several runs: a step of many micro-batches.

use std::sync::Arc;

use distil_gpu_kernels::{DType, add_to};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::layout::{Part, StorePart};

/// Adds its input onto the gradient of a store's parameter.
#[derive(Clone, Copy, Debug)]
pub struct AddTo {
    /// The store.
    pub store: usize,
    /// Index of the parameter.
    pub parameter: usize,
}

impl Op for AddTo {
    fn name(&self) -> &'static str {
        "add_to"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        if inputs[0].dtype != DType::F32 || inputs[0].is_empty() {
            return Err(mismatch(self.name(), inputs, "the gradient of a parameter"));
        }
        Ok(Vec::new())
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let len = site.inputs[0].len();
        let place = site.stores[self.store].places[self.parameter];
        let part = StorePart { store: self.store, part: Part::Gradients, segment: place.segment };
        let sum = ArgRef::Store { part, offset: place.offset, len };
        Ok(vec![Lowered::new(add_to::AddTo { len }, vec![ArgRef::Input(0), sum])])
    }

    fn has_effect(&self) -> bool {
        true
    }
}

impl Graph {
    /// Adds a gradient onto the one that the store keeps of a parameter, at each run.
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor of integers.
    pub fn add_to(
        &mut self,
        store: usize,
        parameter: usize,
        gradient: TensorId,
    ) -> Result<(), Error> {
        self.add(Arc::new(AddTo { store, parameter }), &[gradient]).map(|_| ())
    }
}
