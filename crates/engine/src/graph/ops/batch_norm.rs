//! Batch normalisation over all axes but the last: by the statistics of the batch, which running ones follow, or by fixed ones.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::batch_norm::{
    self, BatchMoments, BatchNormBackward, BatchNormSums, RunningMoments,
};
use distil_gpu_kernels::chain::{Binary, Chain, Stage};

use super::pointwise::{appended, operand_count};
use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Source, Tensor, TensorId, collapse};
use crate::layout::{Part, StorePart};

/// Rows and channels of a tensor.
fn sizes(x: &Tensor) -> (usize, usize) {
    let channels = x.shape.last().copied().unwrap_or(1);
    (x.len() / channels.max(1), channels)
}

/// Input: x [.., channels]. Output: moments [3, channels]; see [`BatchMoments`].
#[derive(Clone, Copy, Debug)]
struct Moments;

impl Op for Moments {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let (rows, channels) = sizes(inputs[0]);
        if inputs[0].dtype != DType::F32 || rows < 2 || channels == 0 {
            let needed = "floats [.., channels] of two rows or more: of one, the variance is 0";
            return Err(mismatch(self.name(), inputs, needed));
        }
        Ok(vec![vec![3, channels]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (rows, channels) = sizes(site.inputs[0]);
        let args = vec![ArgRef::Input(0), ArgRef::Output(0)];
        Ok(vec![Lowered::new(BatchMoments { rows, channels }, args)])
    }
}

/// Lets a store's running mean and variance follow the moments that are its input.
#[derive(Clone, Copy, Debug)]
struct Follow {
    rows: usize,
    momentum: f32,
    store: usize,
    /// The parameters: mean and variance.
    running: [usize; 2],
}

impl Op for Follow {
    fn name(&self) -> &'static str {
        "running_moments"
    }

    fn infer(&self, _: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        Ok(Vec::new())
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let channels = site.inputs[0].shape[1];
        let running = self.running.map(|index| {
            let place = site.stores[self.store].places[index];
            let part =
                StorePart { store: self.store, part: Part::Parameters, segment: place.segment };
            ArgRef::Store { part, offset: place.offset, len: channels }
        });
        let kernel = RunningMoments { rows: self.rows, channels, momentum: self.momentum };
        Ok(vec![Lowered::new(kernel, vec![ArgRef::Input(0), running[0], running[1]])])
    }

    fn has_effect(&self) -> bool {
        true
    }
}

/// Inputs: x, its moments, weight \[channels], bias \[channels], then the stages' operands. Output: stages(x̂ · weight + bias).
#[derive(Clone, Debug)]
struct BatchNorm {
    eps: f32,
    stages: Vec<Stage>,
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let (_, channels) = sizes(inputs[0]);
        let vectors = inputs[2..4]
            .iter()
            .all(|tensor| tensor.shape == [channels] && tensor.dtype == DType::F32);
        if !vectors || inputs[1].shape != [3, channels] {
            let needed = "x [.., channels] with weight and bias [channels]";
            return Err(mismatch(self.name(), inputs, needed));
        }
        Ok(vec![inputs[0].shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let (x, moments, weight, dy) = (at.input(0), at.input(1), at.input(2), at.upstream(0));
        let op = Arc::new(BatchNormGradient { eps: self.eps });
        let made = at.graph.add(op, &[x, moments, weight, dy])?;
        // The moments are a function of x, whose gradient is that of both.
        Ok(vec![Some(made[0]), None, Some(made[1]), Some(made[2])])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (rows, channels) = sizes(site.inputs[0]);
        let operands: Vec<&[usize]> = site.inputs[4..].iter().map(|t| &t.shape[..]).collect();
        let (extent, operands) = collapse(&site.outputs[0].shape, &operands, true)
            .ok_or_else(|| mismatch(self.name(), &site.inputs, "at most four broadcast groups"))?;
        let chain = Chain { stages: self.stages.clone(), operands };
        let kernel = batch_norm::BatchNorm { rows, channels, eps: self.eps, chain, extent };
        let args = (0..site.inputs.len()).map(ArgRef::Input).chain([ArgRef::Output(0)]);
        Ok(vec![Lowered::new(kernel, args.collect())])
    }

    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let stages = appended(&self.stages, operand_count(&self.stages), stages)?;
        let fits = operand_count(&stages) <= batch_norm::MAX_OPERANDS;
        fits.then(|| Arc::new(Self { stages, ..*self }) as Arc<dyn Op>)
    }
}

/// Inputs: x, its moments, weight, dy. Outputs: dx, dweight, dbias.
#[derive(Clone, Copy, Debug)]
struct BatchNormGradient {
    eps: f32,
}

impl Op for BatchNormGradient {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let (_, channels) = sizes(inputs[0]);
        Ok(vec![inputs[0].shape.clone(), vec![channels], vec![channels]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let ((rows, channels), eps) = (sizes(site.inputs[0]), self.eps);
        let [x, moments, weight, dy] = [0, 1, 2, 3].map(ArgRef::Input);
        let [dx, dweight, dbias] = [0, 1, 2].map(ArgRef::Output);
        let sums = BatchNormSums { rows, channels, eps };
        let back = BatchNormBackward { rows, channels, eps };
        let mut calls = vec![Lowered::new(sums, vec![x, moments, dy, dweight, dbias])];
        if site.wanted[0] {
            calls.push(Lowered::new(back, vec![x, moments, weight, dy, dweight, dbias, dx]));
        }
        Ok(calls)
    }
}

/// How a batch normalisation goes about its statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub eps: f32,
    /// Share of the newest batch in the running statistics.
    pub momentum: f32,
}

impl Default for BatchNormConfig {
    /// PyTorch's.
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1 }
    }
}

impl Graph {
    /// x [.., channels] with each channel at the batch's mean 0 and variance 1, times `weight`, plus `bias`, both \[channels].
    /// `running` are parameters of one store, a mean and a variance, which follow those of the batch at each run.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not meet, x has one row alone, or `running` are no parameters.
    pub fn batch_norm(
        &mut self,
        x: TensorId,
        [weight, bias]: [TensorId; 2],
        running: Option<[TensorId; 2]>,
        config: BatchNormConfig,
    ) -> Result<TensorId, Error> {
        let BatchNormConfig { eps, momentum } = config;
        let moments = self.add_one(Arc::new(Moments), &[x])?;
        if let Some([mean, variance]) = running {
            let (rows, channels) = sizes(self.tensor(x));
            let [Some((store, mean)), Some((of_variance, variance))] =
                [mean, variance].map(|id| match self.tensor(id).source {
                    Source::Parameter { store, index } if self.shape(id) == [channels] => {
                        Some((store, index))
                    }
                    _ => None,
                })
            else {
                let found = [mean, variance].map(|id| self.describe(id)).join(", ");
                let needed = format!("running statistics that are parameters [{channels}]");
                return Err(Error::Shape { op: "batch_norm", found, needed });
            };
            debug_assert_eq!(store, of_variance, "both are of one store");
            let follow = Follow { rows, momentum, store, running: [mean, variance] };
            self.add(Arc::new(follow), &[moments])?;
        }
        let op = BatchNorm { eps, stages: Vec::new() };
        self.add_one(Arc::new(op), &[x, moments, weight, bias])
    }

    /// The same by a mean and a variance that stay as they are: x · scale + shift, scale = weight / √(variance + eps) and
    /// shift = bias - mean · scale. Two stages, which join what makes x, so behind a convolution it costs what a bias does.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not meet.
    pub fn fixed_batch_norm(
        &mut self,
        x: TensorId,
        [weight, bias]: [TensorId; 2],
        [mean, variance]: [TensorId; 2],
        eps: f32,
    ) -> Result<TensorId, Error> {
        let variance = self.affine(variance, 1.0, eps)?;
        let deviation = self.map(Stage::Sqrt, variance)?;
        let scale = self.binary(Binary::ReverseDiv, deviation, weight)?;
        let moved = self.mul(scale, mean)?;
        let shift = self.binary(Binary::ReverseSub, moved, bias)?;
        let scaled = self.mul(x, scale)?;
        self.plus(scaled, shift)
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
            let y = graph.batch_norm(x, [weight, bias], None, BatchNormConfig::default());
            y.map(|y| graph.shape(y).to_vec())
        };
        assert_eq!(made(&[2, 4, 3], &[3], &[3]).ok(), Some(vec![2, 4, 3]));
        for (x, weight, bias) in [
            (&[4, 3][..], &[4][..], &[3][..]),
            (&[4, 3], &[3], &[1]),
            (&[1, 1, 1, 3], &[3], &[3]),
            (&[0, 3], &[3], &[3]),
        ] {
            let error = made(x, weight, bias);
            assert!(matches!(error, Err(Error::Shape { op: "batch_norm", .. })), "{error:?}");
        }
    }

    #[test]
    fn running_statistics_are_parameters() {
        let mut graph = Graph::default();
        let [x, vector] = [("x", &[4, 3][..]), ("vector", &[3])]
            .map(|(name, shape)| graph.input(name, shape, DType::F32));
        let config = BatchNormConfig::default();
        let refused = graph.batch_norm(x, [vector; 2], Some([vector; 2]), config);
        assert!(matches!(refused, Err(Error::Shape { op: "batch_norm", .. })), "{refused:?}");
    }
}
