//! What convolutional networks are made of: layers of a store in a graph, and their parameters.

use distil_gpu_kernels::conv::Window;

use super::super::{Answer, Inputs, Naming, Outputs};
use crate::error::Error;
use crate::graph::ops::BatchNormConfig;
use crate::graph::{Graph, TensorId};
use crate::nn;
use crate::store::{Init, ParameterSpec};

/// PyTorch counts batches beside each statistic, for averages that have no momentum.
pub(super) const UNCOUNTED: Naming = Naming {
    prefix: "",
    unneeded: Vec::new(),
    unneeded_ends: &[".num_batches_tracked"],
    fresh: &[],
};

/// A graph to which layers of a store are added.
pub(super) struct Pass<'a> {
    pub graph: &'a mut Graph,
    pub store: usize,
    pub training: bool,
    /// How batches are normalised.
    pub norms: BatchNormConfig,
}

impl Pass<'_> {
    /// The pictures [n, height, width, channels] that an input [n, channels, height, width] has, in whichever shape.
    pub fn pictures(
        &mut self,
        inputs: &Inputs,
        [channels, height, width]: [usize; 3],
    ) -> Result<TensorId, Error> {
        let Inputs::Numbers(pixels) = *inputs else {
            let needed = "a convolutional network reads pictures".to_owned();
            return Err(Error::Shape { op: "conv", found: format!("{inputs:?}"), needed });
        };
        let rows = self.graph.shape(pixels)[0];
        let planes = self.graph.reshape(pixels, &[rows, channels, height, width])?;
        match channels {
            1 => self.graph.reshape(planes, &[rows, height, width, channels]),
            _ => self.graph.permute(planes, &[0, 2, 3, 1]),
        }
    }

    pub fn conv(&mut self, name: &str, x: TensorId, window: Window) -> Result<TensorId, Error> {
        self.grouped_conv(name, x, window, 1)
    }

    pub fn grouped_conv(
        &mut self,
        name: &str,
        x: TensorId,
        window: Window,
        groups: usize,
    ) -> Result<TensorId, Error> {
        let weight = self.graph.named(self.store, &format!("{name}.weight"));
        self.graph.conv(x, weight, window, groups)
    }

    pub fn norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        let mut named = |part: &str| self.graph.named(self.store, &format!("{name}.{part}"));
        let affine = ["weight", "bias"].map(&mut named);
        let running = ["running_mean", "running_var"].map(&mut named);
        match self.training {
            true => self.graph.batch_norm(x, affine, Some(running), self.norms),
            false => self.graph.fixed_batch_norm(x, affine, running, self.norms.eps),
        }
    }

    /// Logits by a linear layer on the mean of all places.
    pub fn head(&mut self, name: &str, x: TensorId) -> Result<Outputs, Error> {
        let pooled = self.graph.global_average_pool(x)?;
        let logits = nn::linear(self.graph, self.store, name, pooled)?;
        Ok(Outputs { answer: Answer::Logits(logits), states: Vec::new(), attention: Vec::new() })
    }
}

/// The parameters of a network in the making: those that are learnt, and running statistics.
#[derive(Default)]
pub(super) struct Specs {
    learnt: Vec<ParameterSpec>,
    statistics: Vec<ParameterSpec>,
}

impl Specs {
    pub fn conv(&mut self, name: &str, inputs: usize, outputs: usize, taps: usize) {
        self.learnt.push(nn::conv_parameter(name, inputs, outputs, taps));
    }

    /// Of a convolution in which each channel sees itself alone.
    pub fn depthwise(&mut self, name: &str, channels: usize, taps: usize) {
        let whole = nn::conv_parameter(name, 1, channels, taps);
        let deviation = (2.0 / (taps * taps) as f32).sqrt();
        self.learnt.push(ParameterSpec { init: Init::Normal(deviation), ..whole });
    }

    pub fn norm(&mut self, name: &str, channels: usize) {
        let spec = |part: &str, init| ParameterSpec {
            name: format!("{name}.{part}"),
            shape: vec![channels],
            decay: false,
            init,
        };
        self.learnt.push(spec("weight", Init::Constant(1.0)));
        self.learnt.push(spec("bias", Init::Constant(0.0)));
        self.statistics.push(spec("running_mean", Init::Statistic(0.0)));
        self.statistics.push(spec("running_var", Init::Statistic(1.0)));
    }

    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.learnt.extend(nn::linear_parameters(name, inputs, outputs));
    }

    /// What is learnt, then the running statistics.
    pub fn all(mut self) -> Vec<ParameterSpec> {
        self.learnt.extend(self.statistics);
        self.learnt
    }
}
