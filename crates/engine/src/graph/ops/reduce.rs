//! Sum, mean and maximum over neighbouring axes.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::reduce::{self, ReduceOp};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// out = op over axes `first..first + count` of x, each left with an extent of 1.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// What becomes of the elements.
    pub op: ReduceOp,
    /// First axis.
    pub first: usize,
    /// Number of axes.
    pub count: usize,
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.op {
            ReduceOp::Sum => "sum",
            ReduceOp::Mean => "mean",
            ReduceOp::Max => "max",
        }
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let mut shape = inputs[0].shape.clone();
        let axes = self.first..self.first + self.count;
        if axes.end > shape.len() || inputs[0].dtype != DType::F32 || inputs[0].is_empty() {
            return Err(mismatch(self.name(), inputs, &format!("floats with axes {axes:?}")));
        }
        shape[axes].fill(1);
        let partial =
            self.kernel(&inputs[0].shape).1.map(|(first, _)| vec![first.outer, first.inner]);
        Ok([Some(shape), partial].into_iter().flatten().collect())
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let shape = at.graph.shape(at.input(0)).to_vec();
        let len: usize = shape[self.first..self.first + self.count].iter().product();
        let scale = match self.op {
            ReduceOp::Sum => 1.0,
            ReduceOp::Mean => 1.0 / len as f32,
            ReduceOp::Max => return Err(at.missing(self.name())),
        };
        // The upstream gradient, stretched over the reduced axes.
        let upstream = at.upstream(0);
        let ones = at.graph.constant(scale, &shape)?;
        Ok(vec![Some(at.graph.mul(ones, upstream)?)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (kernel, split) = self.kernel(&site.inputs[0].shape);
        let (x, out, partial) = (ArgRef::Input(0), ArgRef::Output(0), ArgRef::Output(1));
        Ok(match split {
            Some((first, second)) => {
                vec![
                    Lowered::new(first, vec![x, partial]),
                    Lowered::new(second, vec![partial, out]),
                ]
            }
            None => vec![Lowered::new(kernel, vec![x, out])],
        })
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let x = at.input(0)?;
        let axes: Vec<i64> =
            (self.first..self.first + self.count).map(|axis| axis as i64).collect();
        let attributes = [("axes", Attribute::Ints(axes.clone()))];
        let reduced = match self.op {
            // The axes of a sum are an input, those of the others an attribute: so it is until operator set 18.
            ReduceOp::Sum => {
                let axes = at.integers(&axes);
                at.node("ReduceSum", &[&x, &axes], &[])
            }
            ReduceOp::Mean => at.node("ReduceMean", &[&x], &attributes),
            ReduceOp::Max => at.node("ReduceMax", &[&x], &attributes),
        };
        at.set(0, reduced);
        Ok(())
    }
}

impl Reduce {
    /// The kernel, and the two passes that replace it over a long axis.
    fn kernel(
        &self,
        shape: &[usize],
    ) -> (reduce::Reduce, Option<(reduce::Reduce, reduce::Reduce)>) {
        // A shorter axis is over sooner than a second launch begins.
        const WORTH_SPLITTING: usize = 1024;
        let product = |part: &[usize]| part.iter().product::<usize>();
        let (before, rest) = shape.split_at(self.first);
        let (axes, after) = rest.split_at(self.count);
        let kernel = reduce::Reduce {
            op: self.op,
            outer: product(before),
            len: product(axes),
            inner: product(after),
            accumulate: false,
        };
        (kernel, if kernel.len < WORTH_SPLITTING { None } else { kernel.split() })
    }
}

impl Graph {
    /// A reduction over axes `first..first + count`, each left with an extent of 1.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are no such axes.
    pub fn reduce(
        &mut self,
        op: ReduceOp,
        x: TensorId,
        first: usize,
        count: usize,
    ) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Reduce { op, first, count }), &[x])
    }

    /// Sums x over the axes along which `shape` was stretched to x's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when `shape` does not stretch to x's.
    pub fn sum_to(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId, Error> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let full = self.shape(x).to_vec();
        let missing = full.len() - shape.len();
        let stretched =
            |axis: usize| axis < missing || (shape[axis - missing] == 1 && full[axis] != 1);
        let (mut sum, mut axis) = (x, 0);
        while axis < full.len() {
            let count = (axis..full.len()).take_while(|&a| stretched(a)).count();
            if count > 0 {
                sum = self.reduce(ReduceOp::Sum, sum, axis, count)?;
            }
            axis += count + 1;
        }
        self.reshape(sum, shape)
    }
}
