//! Layer normalisation over the last axis.

use std::sync::Arc;

use distil_gpu_kernels::{DType, layer_norm};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: x [.., cols], weight \[cols], bias \[cols]. Outputs: y [.., cols], and stats [rows, 2] (mean and
/// 1 / std of each row), which the gradient is made from.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Whether the mean is subtracted.
    pub centred: bool,
}

const STATS: usize = 1;

/// Rows and extent of the last axis.
fn matrix(x: &Tensor) -> [usize; 2] {
    let cols = x.shape.last().copied().unwrap_or(1);
    [x.len() / cols, cols]
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let floats = inputs.iter().all(|t| t.dtype == DType::F32);
        let last = inputs[0].shape.last();
        let columns = last.is_some_and(|&cols| inputs[1..].iter().all(|t| t.shape == [cols]));
        if !floats || !columns || inputs[0].is_empty() {
            return Err(mismatch(self.name(), inputs, "floats [.., cols], [cols] and [cols]"));
        }
        Ok(vec![inputs[0].shape.clone(), vec![matrix(inputs[0])[0], 2]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if at.has_upstream(STATS) {
            return Err(at.missing(self.name()));
        }
        let inputs = [at.input(0), at.input(1), at.output(STATS), at.upstream(0)];
        let op = LayerNormGradient { centred: self.centred };
        let made = at.graph.add(Arc::new(op), &inputs)?;
        Ok(made[..3].iter().copied().map(Some).collect())
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let [rows, cols] = matrix(site.inputs[0]);
        let Self { eps, centred } = *self;
        let kernel = layer_norm::LayerNorm { rows, cols, eps, centred };
        let mut args: Vec<ArgRef> = (0..3).map(ArgRef::Input).collect();
        args.extend([ArgRef::Output(0), ArgRef::Output(STATS)]);
        Ok(vec![Lowered::new(kernel, args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let (x, weight, bias) = (at.input(0)?, at.input(1)?, at.input(2)?);
        let last = ("axis", Attribute::Int(-1));
        let y = if self.centred {
            let eps = ("epsilon", Attribute::Float(self.eps));
            at.node("LayerNormalization", &[&x, &weight, &bias], &[last, eps])
        } else {
            let squares = at.node("Mul", &[&x, &x], &[]);
            let mean = at.node("ReduceMean", &[&squares], &[("axes", Attribute::Ints(vec![-1]))]);
            let eps = at.scalar(self.eps);
            let mean = at.node("Add", &[&mean, &eps], &[]);
            let root = at.node("Sqrt", &[&mean], &[]);
            let normed = at.node("Div", &[&x, &root], &[]);
            let scaled = at.node("Mul", &[&normed, &weight], &[]);
            at.node("Add", &[&scaled, &bias], &[])
        };
        at.set(0, y);
        Ok(())
    }
}

/// Inputs: x, weight, stats, dy. Outputs: dx, dweight, dbias, and the sums that the last two are made of.
#[derive(Clone, Copy, Debug)]
struct LayerNormGradient {
    centred: bool,
}

impl LayerNormGradient {
    fn kernel(&self, x: &Tensor) -> layer_norm::LayerNormBackward {
        let [rows, cols] = matrix(x);
        layer_norm::LayerNormBackward { rows, cols, centred: self.centred }
    }
}

impl Op for LayerNormGradient {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let kernel = self.kernel(inputs[0]);
        let cols = vec![kernel.cols];
        let block_sums = vec![kernel.blocks(), 2, kernel.cols];
        Ok(vec![inputs[0].shape.clone(), cols.clone(), cols, block_sums])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let kernel = self.kernel(site.inputs[0]);
        let finish = layer_norm::LayerNormFinish { blocks: kernel.blocks(), cols: kernel.cols };
        let [dx, dweight, dbias, block_sums] = [0, 1, 2, 3].map(ArgRef::Output);
        let mut args: Vec<ArgRef> = (0..4).map(ArgRef::Input).collect();
        args.extend([dx, block_sums]);
        let mut lowered = vec![Lowered::new(kernel, args)];
        if site.wanted[1] || site.wanted[2] {
            lowered.push(Lowered::new(finish, vec![block_sums, dweight, dbias]));
        }
        Ok(lowered)
    }
}

impl Graph {
    /// (x - mean) / √(variance + eps) · weight + bias over the last axis of x [.., cols]; weight and bias are
    /// \[cols], the variance is the biased one.
    ///
    /// # Errors
    /// [`Error::Shape`] when x, weight and bias do not meet.
    pub fn layer_norm(
        &mut self,
        x: TensorId,
        weight: TensorId,
        bias: TensorId,
        eps: f32,
    ) -> Result<TensorId, Error> {
        self.add_one(Arc::new(LayerNorm { eps, centred: true }), &[x, weight, bias])
    }

    /// x / √(mean of x² + eps) · weight over the last axis of x [.., cols]; weight is \[cols]. Zhang and Sennrich, "Root Mean
    /// Square Layer Normalization", 2019; as `torch.nn.RMSNorm`.
    ///
    /// # Errors
    /// [`Error::Shape`] when x and weight do not meet.
    pub fn rms_norm(&mut self, x: TensorId, weight: TensorId, eps: f32) -> Result<TensorId, Error> {
        let shape = self.shape(weight).to_vec();
        let bias = self.constant(0.0, &shape)?;
        self.add_one(Arc::new(LayerNorm { eps, centred: false }), &[x, weight, bias])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_to_meet() {
        let made = |x: &[usize], weight: &[usize], bias: &[usize]| {
            let mut graph = Graph::default();
            let [x, weight, bias] = [("x", x), ("weight", weight), ("bias", bias)]
                .map(|(name, shape)| graph.input(name, shape, DType::F32));
            graph.layer_norm(x, weight, bias, 1e-5).map(|y| graph.shape(y).to_vec())
        };
        assert_eq!(made(&[2, 4, 3], &[3], &[3]).ok(), Some(vec![2, 4, 3]));
        for (x, weight, bias) in [
            (&[4, 3][..], &[4][..], &[3][..]),
            (&[4, 3], &[3], &[1]),
            (&[4, 3], &[1, 3], &[3]),
            (&[], &[1], &[1]),
            (&[0, 3], &[3], &[3]),
        ] {
            let error = made(x, weight, bias);
            assert!(matches!(error, Err(Error::Shape { op: "layer_norm", .. })), "{error:?}");
        }
    }
}
