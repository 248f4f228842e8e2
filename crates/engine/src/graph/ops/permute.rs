//! Axes in another order: a copy.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::chain::Chain;
use distil_gpu_kernels::elementwise::Elementwise;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Most axes that are permuted.
const MAX_AXES: usize = 4;

/// Axis i of the output is axis `axes[i]` of the input.
#[derive(Clone, Debug)]
pub struct Permute {
    /// The input's axes, in the output's order.
    pub axes: Vec<usize>,
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let shape = &inputs[0].shape;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        let each_once = sorted.iter().copied().eq(0..shape.len());
        if !each_once || shape.len() > MAX_AXES || inputs[0].dtype != DType::F32 {
            let needed = format!(
                "floats of at most {MAX_AXES} axes, each of which {:?} has once",
                self.axes
            );
            return Err(mismatch(self.name(), inputs, &needed));
        }
        Ok(vec![self.axes.iter().map(|&axis| shape[axis]).collect()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let mut back = vec![0; self.axes.len()];
        self.axes.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        let upstream = at.upstream(0);
        Ok(vec![Some(at.graph.permute(upstream, &back)?)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let shape = &site.inputs[0].shape;
        let (mut extent, mut strides) = ([1; MAX_AXES], [0; MAX_AXES]);
        let first = MAX_AXES - self.axes.len();
        for (to, &axis) in self.axes.iter().enumerate() {
            extent[first + to] = shape[axis] as u32;
            // An axis of one element has no step, as elsewhere where axes are broadcast.
            let step: usize = shape[axis + 1..].iter().product();
            strides[first + to] = if shape[axis] == 1 { 0 } else { step as u32 };
        }
        let kernel = Elementwise { extent, main_strides: Some(strides), chain: Chain::default() };
        Ok(vec![Lowered::new(kernel, vec![ArgRef::Input(0), ArgRef::Output(0)])])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let x = at.input(0)?;
        let axes: Vec<i64> = self.axes.iter().map(|&axis| axis as i64).collect();
        let moved = at.permuted(&x, &axes);
        at.set(0, moved);
        Ok(())
    }
}

impl Graph {
    /// x, of at most four axes, with its axes in another order: axis i is x's axis `axes[i]`. A copy.
    ///
    /// # Errors
    /// [`Error::Shape`] when `axes` does not name each axis once.
    pub fn permute(&mut self, x: TensorId, axes: &[usize]) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Permute { axes: axes.to_vec() }), &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_named_once() {
        let mut graph = Graph::default();
        let x = graph.input("x", &[2, 3, 4], DType::F32);
        let moved = graph.permute(x, &[2, 0, 1]).ok();
        assert_eq!(moved.map(|id| graph.shape(id).to_vec()), Some(vec![4, 2, 3]));
        for axes in [&[0, 1][..], &[0, 0, 1], &[0, 1, 3], &[0, 1, 2, 3]] {
            assert!(matches!(graph.permute(x, axes), Err(Error::Shape { op: "permute", .. })));
        }
        let deep = graph.input("deep", &[1, 1, 1, 1, 2], DType::F32);
        assert!(graph.permute(deep, &[4, 3, 2, 1, 0]).is_err());
    }
}
