//! Softmax over the last axis.

use std::sync::Arc;

use distil_gpu_kernels::{DType, softmax};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// y = softmax(x) over the last axis; `backward`: dx from y and dy.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// dx = y · (dy - Σ y · dy) instead.
    pub backward: bool,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let alike = inputs.iter().all(|t| t.shape == inputs[0].shape && t.dtype == DType::F32);
        if !alike || inputs[0].is_empty() || inputs[0].shape.is_empty() {
            return Err(mismatch(self.name(), inputs, "floats [.., classes]"));
        }
        Ok(vec![inputs[0].shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if self.backward {
            return Err(at.missing(self.name()));
        }
        let (y, dy) = (at.output(0), at.upstream(0));
        Ok(vec![Some(at.graph.add_one(Arc::new(Self { backward: true }), &[y, dy])?)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let cols = site.inputs[0].shape.last().copied().unwrap_or(1);
        let rows = site.inputs[0].len() / cols;
        let kernel = softmax::Softmax { rows, cols, backward: self.backward };
        let mut args: Vec<ArgRef> = (0..site.inputs.len()).map(ArgRef::Input).collect();
        args.push(ArgRef::Output(0));
        Ok(vec![Lowered::new(kernel, args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        if self.backward {
            return Err(at.unsupported("the gradient of a softmax"));
        }
        let x = at.input(0)?;
        let y = at.node("Softmax", &[&x], &[("axis", Attribute::Int(-1))]);
        at.set(0, y);
        Ok(())
    }
}

impl Graph {
    /// Softmax over the last axis.
    ///
    /// # Errors
    /// [`Error::Shape`] for an integer or empty tensor.
    pub fn softmax(&mut self, x: TensorId) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Softmax { backward: false }), &[x])
    }
}
