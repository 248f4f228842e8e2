//! Gated linear units.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::glu::{self, Gate, Halves};
use distil_gpu_onnx::Attribute;

use super::pointwise::export_stage;
use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Input: x [.., 2 · half], of which one half of the columns are gates and the other are values; or gates and values
/// [.., half], where they lie apart. Output: act(gate) · value [.., half].
///
/// `backward`: a further input is the gradient [.., half]; outputs: those of the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Glu {
    /// What the gates go through.
    pub gate: Gate,
    /// Where gates and values lie.
    pub halves: Halves,
    /// The gradient instead.
    pub backward: bool,
}

impl Op for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let x = inputs[0];
        if self.halves == Halves::Apart {
            let alike = inputs.iter().all(|t| t.shape == x.shape && t.dtype == DType::F32);
            if !alike || x.is_empty() {
                return Err(mismatch(self.name(), inputs, "floats of one shape"));
            }
            return Ok(vec![x.shape.clone(); if self.backward { 2 } else { 1 }]);
        }
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
        let mut inputs = at.node.inputs.clone();
        inputs.push(at.upstream(0));
        let made = at.graph.add(Arc::new(Self { backward: true, ..*self }), &inputs)?;
        Ok(made.into_iter().map(Some).collect())
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let x = site.inputs[0];
        let Self { gate, halves, backward } = *self;
        let columns = x.shape.last().copied().unwrap_or(1);
        let rows = x.len() / columns;
        let [input, output] = [ArgRef::Input, ArgRef::Output];
        let (half, args) = match (halves, backward) {
            (Halves::Apart, false) => (columns, vec![input(0), output(0), input(1)]),
            (Halves::Apart, true) => {
                (columns, vec![input(0), input(2), input(1), output(0), output(1)])
            }
            (_, false) => (columns / 2, vec![input(0), output(0)]),
            (_, true) => (columns / 2, vec![input(0), input(1), output(0)]),
        };
        Ok(vec![Lowered::new(glu::Glu { rows, half, gate, halves, backward }, args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        if self.backward {
            return Err(at.unsupported("the gradient of a gated unit"));
        }
        let x = at.input(0)?;
        let [gates, values] = if self.halves == Halves::Apart {
            [x, at.input(1)?]
        } else {
            let last = [("axis", Attribute::Int(-1))];
            let mut halves = at.to().node_of("Split", &[&x], &last, 2);
            if self.halves == Halves::GateLast {
                halves.reverse();
            }
            let [gates, values] = [0, 1].map(|half| halves[half].clone());
            [gates, values]
        };
        let stage = match self.gate {
            Gate::Sigmoid | Gate::Silu => Stage::Sigmoid,
            Gate::Relu => Stage::Relu,
            Gate::Gelu => Stage::GeluErf,
            Gate::GeluTanh => Stage::GeluTanh,
        };
        let mut open = export_stage(at, stage, &gates)?;
        if self.gate == Gate::Silu {
            open = at.node("Mul", &[&gates, &open], &[]);
        }
        let y = at.node("Mul", &[&open, &values], &[]);
        at.set(0, y);
        Ok(())
    }
}

impl Graph {
    /// act(gate) · value [.., half] for x [.., 2 · half], whose rows are gate and value side by side, or value and gate
    /// with `gate_last`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an odd number of columns, or integers.
    pub fn glu(&mut self, x: TensorId, gate: Gate, gate_last: bool) -> Result<TensorId, Error> {
        let halves = if gate_last { Halves::GateLast } else { Halves::GateFirst };
        self.add_one(Arc::new(Glu { gate, halves, backward: false }), &[x])
    }

    /// act(gates) · values of two tensors of one shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when their shapes differ, and for integers.
    pub fn gated(
        &mut self,
        gates: TensorId,
        values: TensorId,
        gate: Gate,
    ) -> Result<TensorId, Error> {
        self.add_one(
            Arc::new(Glu { gate, halves: Halves::Apart, backward: false }),
            &[gates, values],
        )
    }
}
