//! Pools over images [n, height, width, channels].

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::conv::Window;
use distil_gpu_kernels::pool::{self, PoolKind};
use distil_gpu_kernels::reduce::ReduceOp;
use distil_gpu_onnx::Attribute;

use super::conv::{CHANNELS_FIRST, CHANNELS_LAST, window_attributes};
use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// The largest or the mean of what a window sees. Input: x [n, height, width, channels].
/// Output: [n, places down, places across, channels].
#[derive(Clone, Copy, Debug)]
struct Pool {
    window: Window,
    kind: PoolKind,
}

impl Pool {
    fn kernel(&self, inputs: &[&Tensor], backward: bool) -> Result<pool::Pool, Error> {
        let needed = "images [n, height, width, channels] in floats that the window fits, padded by half of it at most";
        let x = inputs[0];
        let &[images, height, width, channels] = &x.shape[..] else {
            return Err(mismatch(self.name(), inputs, needed));
        };
        let (window, size) = (self.window, [height, width]);
        let fits = x.dtype == DType::F32
            && !x.is_empty()
            && window.places(size).is_some()
            && pool::Pool::is_filled(&window);
        match fits {
            true => Ok(pool::Pool { window, images, size, channels, kind: self.kind, backward }),
            false => Err(mismatch(self.name(), inputs, needed)),
        }
    }
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "max_pool",
            PoolKind::Mean { .. } => "average_pool",
        }
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let pool::Pool { images, size, channels, window, .. } = self.kernel(inputs, false)?;
        let [down, across] = window.places(size).expect("the window fits");
        Ok(vec![vec![images, down, across, channels]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let (x, dy) = (at.input(0), at.upstream(0));
        Ok(vec![Some(at.graph.add_one(Arc::new(PoolGradient(*self)), &[x, dy])?)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let kernel = self.kernel(&site.inputs, false)?;
        Ok(vec![Lowered::new(kernel, vec![ArgRef::Input(0), ArgRef::Output(0)])])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let x = at.input(0)?;
        let x = at.permuted(&x, &CHANNELS_FIRST);
        let mut window = window_attributes(&self.window);
        let op = match self.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Mean { count_padding } => {
                // Its windows have no dilation until operator set 19, nor have ours.
                window.retain(|(name, _)| *name != "dilations");
                window.push(("count_include_pad", Attribute::Int(i64::from(count_padding))));
                "AveragePool"
            }
        };
        let made = at.node(op, &[&x], &window);
        let made = at.permuted(&made, &CHANNELS_LAST);
        at.set(0, made);
        Ok(())
    }
}

/// Inputs: x, dy. Output: dx.
#[derive(Clone, Copy, Debug)]
struct PoolGradient(Pool);

impl Op for PoolGradient {
    fn name(&self) -> &'static str {
        "pool_gradient"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        Ok(vec![inputs[0].shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let kernel = self.0.kernel(&site.inputs, true)?;
        let dy_and_dx = [ArgRef::Input(1), ArgRef::Output(0)];
        let x = (self.0.kind == PoolKind::Max).then_some(ArgRef::Input(0));
        Ok(vec![Lowered::new(kernel, x.into_iter().chain(dy_and_dx).collect())])
    }
}

impl Graph {
    /// The largest of what each place of a window sees of x [n, height, width, channels]; pixels beyond the edge are none. The
    /// gradient goes to the first of the largest, in the order of rows.
    ///
    /// # Errors
    /// [`Error::Shape`] when the window does not fit, or its padding is more than half of it.
    pub fn max_pool(&mut self, x: TensorId, window: Window) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Pool { window, kind: PoolKind::Max }), &[x])
    }

    /// The mean of what each place of a window sees of x [n, height, width, channels]; pixels beyond the edge count as zeros,
    /// or not at all.
    ///
    /// # Errors
    /// As [`Graph::max_pool`].
    pub fn average_pool(
        &mut self,
        x: TensorId,
        window: Window,
        count_padding: bool,
    ) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Pool { window, kind: PoolKind::Mean { count_padding } }), &[x])
    }

    /// The mean over all pixels of each image x [n, height, width, channels]: [n, channels].
    ///
    /// # Errors
    /// [`Error::Shape`] when x has other axes.
    pub fn global_average_pool(&mut self, x: TensorId) -> Result<TensorId, Error> {
        let &[images, _, _, channels] = self.shape(x) else {
            let found = self.describe(x);
            let needed = "images [n, height, width, channels]".to_owned();
            return Err(Error::Shape { op: "global_average_pool", found, needed });
        };
        let mean = self.reduce(ReduceOp::Mean, x, 1, 2)?;
        self.reshape(mean, &[images, channels])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_to_fit() {
        let mut graph = Graph::default();
        let x = graph.input("x", &[2, 5, 7, 3], DType::F32);
        let pooled = graph.max_pool(x, Window::square(3, 2, 1)).ok();
        assert_eq!(pooled.map(|id| graph.shape(id).to_vec()), Some(vec![2, 3, 4, 3]));
        let pooled = graph.average_pool(x, Window::square(2, 2, 0), true).ok();
        assert_eq!(pooled.map(|id| graph.shape(id).to_vec()), Some(vec![2, 2, 3, 3]));
        let pooled = graph.global_average_pool(x).ok();
        assert_eq!(pooled.map(|id| graph.shape(id).to_vec()), Some(vec![2, 3]));
        for window in [Window::square(6, 1, 0), Window::square(3, 1, 2), Window::square(3, 0, 0)] {
            assert!(matches!(graph.max_pool(x, window), Err(Error::Shape { op: "max_pool", .. })));
        }
        let rows = graph.input("rows", &[2, 3], DType::F32);
        assert!(graph.max_pool(rows, Window::square(1, 1, 0)).is_err());
        assert!(graph.global_average_pool(rows).is_err());
    }
}
