//! Convolutions over images [n, height, width, channels], with fused stages behind them.
//!
//! Weights are [outputs, taps down, taps across, inputs / groups]. A window of one pixel is a plain matrix product, one channel
//! a group is a depthwise convolution, everything else a product whose factor is read patch by patch
//! ([`distil_gpu_kernels::conv`]).

use std::sync::Arc;

use distil_gpu_kernels::chain::{Chain, Stage};
use distil_gpu_kernels::conv::{self, Window};
use distil_gpu_kernels::depthwise::{self, Pass};
use distil_gpu_kernels::{DType, matmul};
use distil_gpu_onnx::Attribute;

use super::pointwise::{appended, operand_count};
use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId, collapse};

const NEEDED: &str = "images [n, height, width, channels] in floats that the window fits, and weights [outputs, taps down, \
                      taps across, channels / groups]";

/// out [n, places down, places across, outputs] of x [n, height, width, inputs] and weights; of several groups
/// [groups, n · places, outputs / groups], without stages. Then the stages' operands.
#[derive(Clone, Debug)]
struct Conv {
    window: Window,
    groups: usize,
    stages: Vec<Stage>,
}

/// The sizes of a convolution of images of shape x by weights of shape w; `None` where they do not meet.
fn sizes(window: Window, groups: usize, x: &[usize], w: &[usize]) -> Option<conv::Conv> {
    let (&[images, height, width, inputs], &[outputs, down, across, of_group]) = (x, w) else {
        return None;
    };
    let size = [height, width];
    let fits = window.taps == [down, across]
        && groups > 0
        && inputs == of_group.checked_mul(groups)?
        && outputs.is_multiple_of(groups)
        && images * inputs * outputs > 0;
    window.places(size).filter(|_| fits)?;
    Some(conv::Conv { window, images, size, inputs, outputs, groups })
}

/// Axes of images, and of weights, in the order that ONNX has, and back.
pub(super) const CHANNELS_FIRST: [i64; 4] = [0, 3, 1, 2];
pub(super) const CHANNELS_LAST: [i64; 4] = [0, 2, 3, 1];

/// A window in ONNX's words.
pub(super) fn window_attributes(window: &Window) -> Vec<(&'static str, Attribute)> {
    let whole = |numbers: &[usize]| numbers.iter().map(|&number| number as i64).collect();
    vec![
        ("kernel_shape", Attribute::Ints(whole(&window.taps))),
        ("strides", Attribute::Ints(whole(&window.stride))),
        ("dilations", Attribute::Ints(whole(&window.dilation))),
        ("pads", Attribute::Ints(whole(&window.padding))),
    ]
}

impl Conv {
    fn sizes(&self, inputs: &[&Tensor]) -> Result<conv::Conv, Error> {
        let floats =
            inputs[0].dtype == DType::F32 && matches!(inputs[1].dtype, DType::F32 | DType::F16);
        sizes(self.window, self.groups, &inputs[0].shape, &inputs[1].shape)
            .filter(|_| floats)
            .ok_or_else(|| mismatch(self.name(), &inputs[..2], NEEDED))
    }
}

/// A product with a chain behind it, over inputs 0 and 1 and the chain's operands behind them.
fn lowered(
    op: &dyn Op,
    stages: &[Stage],
    mut kernel: matmul::Matmul,
    site: &Site<'_>,
) -> Result<Vec<Lowered>, Error> {
    let operands: Vec<&[usize]> = site.inputs[2..].iter().map(|t| &t.shape[..]).collect();
    if kernel.batch == 1 {
        let (extent, strides) = collapse(&site.outputs[0].shape, &operands, true)
            .ok_or_else(|| mismatch(op.name(), &site.inputs, "at most four broadcast groups"))?;
        kernel.chain = Chain { stages: stages.to_vec(), operands: strides };
        kernel.extent = extent;
    }
    kernel.b_type = site.inputs[1].dtype;
    let args = (0..site.inputs.len()).map(ArgRef::Input).chain([ArgRef::Output(0)]);
    Ok(vec![Lowered::new(kernel, args.collect())])
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let sizes = self.sizes(inputs)?;
        let [down, across] = sizes.places();
        let places = sizes.images * down * across;
        Ok(vec![match sizes.groups {
            1 => vec![sizes.images, down, across, sizes.outputs],
            groups => vec![groups, places, sizes.outputs / groups],
        }])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let (dy, x, w) = (at.upstream(0), at.input(0), at.input(1));
        let graph = &mut *at.graph;
        let [x_shape, w_shape] = [x, w].map(|id| graph.shape(id).to_vec());
        let sizes = sizes(self.window, self.groups, &x_shape, &w_shape)
            .ok_or_else(|| Error::NoGradient { op: "conv", tensor: graph.describe(w) })?;
        let groups = sizes.groups;
        let (of_group, inputs) = (sizes.outputs / groups, sizes.inputs / groups);
        let taps = self.window.taps[0] * self.window.taps[1];
        let [down, across] = sizes.places();
        let places = sizes.images * down * across;
        // dy as images, and group by group.
        let (image, by_group) = match groups {
            1 => (dy, graph.reshape(dy, &[1, places, of_group])?),
            _ => {
                let rows = graph.permute(dy, &[1, 0, 2])?;
                let image = [sizes.images, down, across, sizes.outputs];
                (graph.reshape(rows, &image)?, dy)
            }
        };
        let weights = graph.reshape(w, &[groups, of_group, taps, inputs])?;
        let turned = graph.permute(weights, &[0, 2, 1, 3])?;
        let turned = graph.reshape(turned, &[groups, taps * of_group, inputs])?;
        let back = InputGradient { sizes, stages: Vec::new() };
        let dx = graph.add_one(Arc::new(back), &[image, turned])?;
        let dx = match groups {
            1 => dx,
            _ => {
                let rows = graph.permute(dx, &[1, 0, 2])?;
                graph.reshape(rows, &x_shape)?
            }
        };
        let dw = graph.add_one(Arc::new(WeightGradient { sizes }), &[x, by_group])?;
        let dw = graph.permute(dw, &[0, 2, 1])?;
        let dw = graph.reshape(dw, &w_shape)?;
        Ok(vec![Some(dx), Some(dw)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let sizes = self.sizes(&site.inputs)?;
        let kernel = match self.window.is_point() && sizes.groups == 1 {
            true => {
                let places = sizes.images * sizes.size[0] * sizes.size[1];
                matmul::Matmul::new(places, sizes.outputs, sizes.inputs, false, true)
            }
            false => sizes.forward(),
        };
        lowered(self, &self.stages, kernel, site)
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        if !self.stages.is_empty() || self.groups != 1 {
            return Err(at.unsupported("a fused or a grouped convolution"));
        }
        let (x, weights) = (at.input(0)?, at.input(1)?);
        let [x, weights] = [x, weights].map(|value| at.permuted(&value, &CHANNELS_FIRST));
        let made = at.node("Conv", &[&x, &weights], &window_attributes(&self.window));
        let made = at.permuted(&made, &CHANNELS_LAST);
        at.set(0, made);
        Ok(())
    }

    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let stages = appended(&self.stages, operand_count(&self.stages), stages)?;
        (self.groups == 1).then(|| Arc::new(Self { stages, ..*self }) as Arc<dyn Op>)
    }
}

/// Inputs: dy [n, places, outputs], weights [groups, taps · outputs / groups, inputs / groups], then the stages' operands.
/// Output: dx [n, height, width, inputs], of several groups [groups, n · height · width, inputs / groups].
#[derive(Clone, Debug)]
struct InputGradient {
    sizes: conv::Conv,
    stages: Vec<Stage>,
}

impl Op for InputGradient {
    fn name(&self) -> &'static str {
        "conv_input_gradient"
    }

    fn infer(&self, _: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let conv::Conv { images, size: [height, width], inputs, groups, .. } = self.sizes;
        Ok(vec![match groups {
            1 => vec![images, height, width, inputs],
            _ => vec![groups, images * height * width, inputs / groups],
        }])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        lowered(self, &self.stages, self.sizes.input_gradient(), site)
    }

    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let stages = appended(&self.stages, operand_count(&self.stages), stages)?;
        let op = Self { stages, sizes: self.sizes };
        (self.sizes.groups == 1).then(|| Arc::new(op) as Arc<dyn Op>)
    }
}

/// Inputs: x [n, height, width, inputs], dy [groups, n · places, outputs / groups].
/// Output: [groups, taps · inputs / groups, outputs / groups].
#[derive(Clone, Copy, Debug)]
struct WeightGradient {
    sizes: conv::Conv,
}

impl Op for WeightGradient {
    fn name(&self) -> &'static str {
        "conv_weight_gradient"
    }

    fn infer(&self, _: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let conv::Conv { window, inputs, outputs, groups, .. } = self.sizes;
        let taps = window.taps[0] * window.taps[1];
        Ok(vec![vec![groups, taps * inputs / groups, outputs / groups]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, _: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let args = vec![ArgRef::Input(0), ArgRef::Input(1), ArgRef::Output(0)];
        Ok(vec![Lowered::new(self.sizes.weight_gradient(), args)])
    }
}

/// A depthwise convolution or a gradient of it; inputs and output as [`depthwise::Depthwise`] has them, images of four axes.
#[derive(Clone, Copy, Debug)]
struct Depthwise(depthwise::Depthwise);

impl Op for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let depthwise::Depthwise { window, images, size, channels, pass } = self.0;
        let [down, across] =
            window.places(size).ok_or_else(|| mismatch(self.name(), inputs, NEEDED))?;
        Ok(vec![match pass {
            Pass::Forward => vec![images, down, across, channels],
            Pass::Input => vec![images, size[0], size[1], channels],
            Pass::Weights => vec![window.taps[0] * window.taps[1], channels],
        }])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if self.0.pass != Pass::Forward {
            return Err(at.missing(self.name()));
        }
        let (dy, x, w) = (at.upstream(0), at.input(0), at.input(1));
        let pass = |pass| Arc::new(Self(depthwise::Depthwise { pass, ..self.0 }));
        let dx = at.graph.add_one(pass(Pass::Input), &[dy, w])?;
        let dw = at.graph.add_one(pass(Pass::Weights), &[x, dy])?;
        Ok(vec![Some(dx), Some(dw)])
    }

    fn lower(&self, _: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let args = vec![ArgRef::Input(0), ArgRef::Input(1), ArgRef::Output(0)];
        Ok(vec![Lowered::new(self.0, args)])
    }
}

impl Graph {
    /// The convolution of x [n, height, width, inputs] by weights [outputs, taps down, taps across, inputs / groups]:
    /// [n, places down, places across, outputs]. Each group of outputs sees a group of inputs alone.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not meet, or the window does not fit.
    pub fn conv(
        &mut self,
        x: TensorId,
        weights: TensorId,
        window: Window,
        groups: usize,
    ) -> Result<TensorId, Error> {
        let op = Conv { window, groups, stages: Vec::new() };
        let sizes = op.sizes(&[self.tensor(x), self.tensor(weights)])?;
        let conv::Conv { images, size, inputs, outputs, .. } = sizes;
        let plain = self.tensor(weights).dtype == DType::F32;
        if window.is_point() && groups == 1 && plain {
            let weights = self.reshape(weights, &[outputs, inputs])?;
            return self.matmul(x, weights, false, true);
        }
        if groups == inputs && groups == outputs && groups > 1 {
            let taps = window.taps[0] * window.taps[1];
            let weights = self.reshape(weights, &[inputs, taps])?;
            let weights = self.permute(weights, &[1, 0])?;
            let pass = Pass::Forward;
            let kernel = depthwise::Depthwise { window, images, size, channels: inputs, pass };
            return self.add_one(Arc::new(Depthwise(kernel)), &[x, weights]);
        }
        let out = self.add_one(Arc::new(op), &[x, weights])?;
        if groups == 1 {
            return Ok(out);
        }
        let [down, across] = sizes.places();
        let rows = self.permute(out, &[1, 0, 2])?;
        self.reshape(rows, &[images, down, across, outputs])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_to_meet() {
        let made = |x: &[usize], w: &[usize], window: Window, groups: usize| {
            let mut graph = Graph::default();
            let [x, w] =
                [("x", x), ("w", w)].map(|(name, shape)| graph.input(name, shape, DType::F32));
            graph.conv(x, w, window, groups).map(|y| graph.shape(y).to_vec())
        };
        let (three, point) = (Window::square(3, 2, 1), Window::square(1, 1, 0));
        assert_eq!(made(&[2, 9, 8, 4], &[6, 3, 3, 4], three, 1).ok(), Some(vec![2, 5, 4, 6]));
        assert_eq!(made(&[2, 9, 8, 4], &[6, 3, 3, 2], three, 2).ok(), Some(vec![2, 5, 4, 6]));
        assert_eq!(made(&[2, 9, 8, 4], &[4, 3, 3, 1], three, 4).ok(), Some(vec![2, 5, 4, 4]));
        assert_eq!(made(&[2, 9, 8, 4], &[6, 1, 1, 4], point, 1).ok(), Some(vec![2, 9, 8, 6]));
        for (x, w, window, groups) in [
            (&[2, 9, 8, 4][..], &[6, 3, 3, 5][..], three, 1),
            (&[2, 9, 8, 4], &[6, 3, 2, 4], three, 1),
            (&[2, 9, 8, 4], &[5, 3, 3, 2], three, 2),
            (&[2, 9, 8, 4], &[6, 3, 3, 4], three, 0),
            (&[9, 8, 4], &[6, 3, 3, 4], three, 1),
            (&[0, 9, 8, 4], &[6, 3, 3, 4], three, 1),
            (&[2, 2, 8, 4], &[6, 3, 3, 4], Window::square(3, 1, 0), 1),
            (&[2, 9, 8, 4], &[6, 3, 3, 4], Window::square(3, 0, 1), 1),
        ] {
            let error = made(x, w, window, groups);
            assert!(matches!(error, Err(Error::Shape { op: "conv", .. })), "{error:?}");
        }
    }
}
