//! Rows that are put into places of a store's parameter: the cache of keys and values.

use std::sync::Arc;

use distil_gpu_kernels::{DType, scatter};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::layout::{Part, StorePart};

/// Inputs: x [rows, cols], places \[rows] (integers: rows of the parameter, which is a table of rows of as many columns; any
/// other number leaves the row out).
#[derive(Clone, Copy, Debug)]
pub struct Scatter {
    /// The store.
    pub store: usize,
    /// Index of the parameter.
    pub parameter: usize,
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let floats = inputs[0].dtype == DType::F32 && inputs[1].dtype == DType::I32;
        let fits = matches!(inputs[0].shape[..], [rows, _] if inputs[1].shape == [rows]);
        if !floats || !fits || inputs[0].is_empty() {
            return Err(mismatch(self.name(), inputs, "floats [rows, cols] and integers [rows]"));
        }
        Ok(Vec::new())
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (rows, cols) = (site.inputs[0].shape[0], site.inputs[0].shape[1]);
        let layout = &site.stores[self.store];
        let (place, len) = (layout.places[self.parameter], layout.parameters[self.parameter].len());
        if !len.is_multiple_of(cols) {
            return Err(mismatch(self.name(), &site.inputs, "rows as long as those of the table"));
        }
        let part = StorePart { store: self.store, part: Part::Parameters, segment: place.segment };
        let table = ArgRef::Store { part, offset: place.offset, len };
        let kernel = scatter::Scatter { rows, cols, table_rows: len / cols };
        Ok(vec![Lowered::new(kernel, vec![ArgRef::Input(0), ArgRef::Input(1), table])])
    }

    fn has_effect(&self) -> bool {
        true
    }
}

impl Graph {
    /// Puts the rows of x [rows, cols] into `places` \[rows] of a store's parameter, at each run; what reads the parameter
    /// afterwards finds them there.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not fit each other.
    pub fn scatter(
        &mut self,
        store: usize,
        parameter: usize,
        x: TensorId,
        places: TensorId,
    ) -> Result<(), Error> {
        self.add(Arc::new(Scatter { store, parameter }), &[x, places]).map(|_| ())
    }
}
