//! Gated linear units.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::glu::{self, Gate};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Input: x [.., 2 · half], of which one half of the columns are gates and the other are values. Output:
/// act(gate) · value [.., half].
///
/// `backward`: a further input is the gradient [.., half]; output: that of x.
#[derive(Clone, Copy, Debug)]
pub struct Glu {
    /// What the gates go through.
    pub gate: Gate,
    /// Whether the gates are the second half.
    pub gate_last: bool,
    /// The gradient instead.
    pub backward: bool,
}

impl Op for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let x = inputs[0];
        let even = x.shape.last().is_some_and(|columns| columns.is_multiple_of(2));
        if !even || x.is_empty() || x.dtype != DType::F32 {
            return Err(mismatch(self.name(), inputs, "floats with an even number of columns"));
        }
        let mut shape = x.shape.clone();
        if !self.backward {
            shape.iter_mut().next_back().into_iter().for_each(|columns| *columns /= 2);
        }
        Ok(vec![shape])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if self.backward {
            return Err(at.missing(self.name()));
        }
        let inputs = [at.input(0), at.upstream(0)];
        let dx = at.graph.add_one(Arc::new(Self { backward: true, ..*self }), &inputs)?;
        Ok(vec![Some(dx)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let x = site.inputs[0];
        let half = x.shape.last().map_or(1, |columns| columns / 2);
        let Self { gate, gate_last, backward } = *self;
        let kernel = glu::Glu { rows: x.len() / (2 * half), half, gate, gate_last, backward };
        let args = (0..site.inputs.len()).map(ArgRef::Input).chain([ArgRef::Output(0)]).collect();
        Ok(vec![Lowered::new(kernel, args)])
    }
}

impl Graph {
    /// act(gate) · value [.., half] for x [.., 2 · half], whose rows are gate and value side by side, or value and gate
    /// with `gate_last`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an odd number of columns, or integers.
    pub fn glu(&mut self, x: TensorId, gate: Gate, gate_last: bool) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Glu { gate, gate_last, backward: false }), &[x])
    }
}
