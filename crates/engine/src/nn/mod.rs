//! Layers: what models are built of.

use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::random::stream;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::store::{Init, ParameterSpec};

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0)
    #[default]
    Relu,
    /// x · Φ(x)
    Gelu,
    /// tanh x
    Tanh,
}

impl Activation {
    fn stage(self) -> Stage {
        match self {
            Self::Relu => Stage::Relu,
            Self::Gelu => Stage::GeluErf,
            Self::Tanh => Stage::Tanh,
        }
    }
}

/// Weight [out, in] and bias [out] of a linear layer, started as PyTorch's `Linear` is: both uniform within
/// 1 / √in.
pub fn linear_parameters(name: &str, inputs: usize, outputs: usize) -> [ParameterSpec; 2] {
    let init = Init::Uniform(1.0 / (inputs as f32).sqrt());
    [
        ParameterSpec {
            name: format!("{name}.weight"),
            shape: vec![outputs, inputs],
            decay: true,
            init,
        },
        ParameterSpec { name: format!("{name}.bias"), shape: vec![outputs], decay: false, init },
    ]
}

/// x · Wᵀ + b for x [.., in]; `weight` and the bias behind it are parameters of `store`.
///
/// # Errors
/// [`Error::Shape`] when x and the weight do not meet.
pub fn linear(
    graph: &mut Graph,
    store: usize,
    weight: usize,
    x: TensorId,
) -> Result<TensorId, Error> {
    let (w, b) = (graph.parameter(store, weight), graph.parameter(store, weight + 1));
    let product = graph.matmul(x, w, false, true)?;
    graph.plus(product, b)
}

/// Sets each element to 0 with probability `rate` and scales the others up; `layer` tells masks apart.
///
/// # Errors
/// [`Error::Shape`] for an integer tensor.
pub fn dropout(graph: &mut Graph, x: TensorId, rate: f32, layer: u32) -> Result<TensorId, Error> {
    if rate == 0.0 {
        return Ok(x);
    }
    graph.map(Stage::Dropout { rate, stream: stream::DROPOUT + layer }, x)
}

/// The activation with dropout behind it.
///
/// # Errors
/// [`Error::Shape`] for an integer tensor.
pub fn activate(
    graph: &mut Graph,
    activation: Activation,
    x: TensorId,
    rate: f32,
    layer: u32,
) -> Result<TensorId, Error> {
    if activation == Activation::Relu {
        // relu commutes with dropout. Behind it, the output alone tells the backward pass where relu was
        // active and what was dropped, so that both passes stay fused to their matmuls.
        let dropped = dropout(graph, x, rate, layer)?;
        return graph.map(Stage::Relu, dropped);
    }
    let active = graph.map(activation.stage(), x)?;
    dropout(graph, active, rate, layer)
}
