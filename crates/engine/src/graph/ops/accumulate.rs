//! Column sums that pile up in a store over many steps: how metrics are kept without reading anything back.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::reduce::{self, ReduceOp};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::layout::{Part, StorePart};

/// Adds the column sums of x [rows, columns] onto columns of a store's metrics.
#[derive(Clone, Copy, Debug)]
pub struct Accumulate {
    /// The store.
    pub store: usize,
    /// The first column; a multiple of [`crate::layout::ALIGNMENT`].
    pub offset: usize,
}

impl Op for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        if inputs[0].shape.len() != 2 || inputs[0].dtype != DType::F32 || inputs[0].is_empty() {
            return Err(mismatch(self.name(), inputs, "floats [rows, columns]"));
        }
        Ok(Vec::new())
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (rows, columns) = (site.inputs[0].shape[0], site.inputs[0].shape[1]);
        let kernel = reduce::Reduce {
            op: ReduceOp::Sum,
            outer: 1,
            len: rows,
            inner: columns,
            accumulate: true,
        };
        let part = StorePart { store: self.store, part: Part::Metrics, segment: 0 };
        let sums = ArgRef::Store { part, offset: self.offset, len: columns };
        Ok(vec![Lowered::new(kernel, vec![ArgRef::Input(0), sums])])
    }

    fn has_effect(&self) -> bool {
        true
    }
}

impl Graph {
    /// Adds the column sums of x [rows, columns] onto a store's metrics at each run.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape.
    pub fn accumulate(&mut self, x: TensorId, store: usize) -> Result<(), Error> {
        self.accumulate_at(x, store, 0)
    }

    /// As [`Self::accumulate`], onto the metrics from `offset` on, a multiple of [`crate::layout::ALIGNMENT`].
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape.
    pub fn accumulate_at(&mut self, x: TensorId, store: usize, offset: usize) -> Result<(), Error> {
        self.add(Arc::new(Accumulate { store, offset }), &[x]).map(|_| ())
    }
}
