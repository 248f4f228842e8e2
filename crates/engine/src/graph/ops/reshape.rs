//! The same elements in another shape; no work, no memory.

use std::sync::Arc;

use super::{Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// out = x in another shape of as many elements.
#[derive(Clone, Debug)]
pub struct Reshape {
    /// The new shape.
    pub shape: Vec<usize>,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        if inputs[0].len() != self.shape.iter().product::<usize>() {
            let needed = format!("as many elements as {:?}", self.shape);
            return Err(mismatch(self.name(), inputs, &needed));
        }
        Ok(vec![self.shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let shape = at.graph.shape(at.input(0)).to_vec();
        let upstream = at.upstream(0);
        Ok(vec![Some(at.graph.reshape(upstream, &shape)?)])
    }

    fn lower(&self, _: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        Ok(Vec::new())
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let x = at.input(0)?;
        let (from, to) = (at.input_extents(0), at.output_extents(0));
        let reshaped = at.reshaped(&x, &from, &to);
        at.set(0, reshaped);
        Ok(())
    }

    fn alias(&self) -> Option<usize> {
        Some(0)
    }
}

impl Graph {
    /// x in another shape of as many elements.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of elements differs.
    pub fn reshape(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Reshape { shape: shape.to_vec() }), &[x])
    }

    /// x as rows of its last axis: [.., c] → [r, c].
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor without axes.
    pub fn rows(&mut self, x: TensorId) -> Result<TensorId, Error> {
        let cols = self.shape(x).last().copied().unwrap_or(1).max(1);
        let rows = self.tensor(x).len() / cols;
        self.reshape(x, &[rows, cols])
    }
}
