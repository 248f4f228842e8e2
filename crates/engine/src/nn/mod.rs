//! Layers: what models are built of.

mod relative;

use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::random::stream;
use distil_gpu_kernels::reduce::ReduceOp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::store::{Init, ParameterSpec};

pub use relative::{Span, disentangled_bias, log_bucket, relative_bias, t5_bucket};

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0)
    #[default]
    Relu,
    /// x · Φ(x)
    Gelu,
    /// x · Φ(x), Φ approximated by tanh.
    #[serde(rename = "gelu_tanh")]
    GeluTanh,
    /// tanh x
    Tanh,
}

impl Activation {
    fn stage(self) -> Stage {
        match self {
            Self::Relu => Stage::Relu,
            Self::Gelu => Stage::GeluErf,
            Self::GeluTanh => Stage::GeluTanh,
            Self::Tanh => Stage::Tanh,
        }
    }
}

/// Weight [out, in] and bias \[out] of a linear layer, started as PyTorch's `Linear` is: both uniform within
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

/// Weight [out, taps, taps, in] of a convolution without a bias, started normal with mean 0 and a variance of 2 / (out · taps²)
/// (He et al., "Delving Deep into Rectifiers", 2015, by what goes out).
pub fn conv_parameter(name: &str, inputs: usize, outputs: usize, taps: usize) -> ParameterSpec {
    let deviation = (2.0 / (outputs * taps * taps) as f32).sqrt();
    ParameterSpec {
        name: format!("{name}.weight"),
        shape: vec![outputs, taps, taps, inputs],
        decay: true,
        init: Init::Normal(deviation),
    }
}

/// x · Wᵀ + b for x [.., in], of the parameters `name`.weight and `name`.bias of `store`.
///
/// # Errors
/// [`Error::Shape`] when x and the weight do not meet.
///
/// # Panics
/// When there are no such parameters.
pub fn linear(graph: &mut Graph, store: usize, name: &str, x: TensorId) -> Result<TensorId, Error> {
    let w = graph.named(store, &format!("{name}.weight"));
    let b = graph.named(store, &format!("{name}.bias"));
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
    graph.map(Stage::Dropout { rate, stream: dropout_stream(layer) }, x)
}

/// Stream of the random numbers of a layer's dropout.
pub fn dropout_stream(layer: u32) -> u32 {
    stream::DROPOUT + layer
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

/// Rows of x [rows, columns] at length 1: x / √(Σ x² + 1e-24), which for all but rows of zeros is x / max(|x|, 1e-12).
///
/// # Errors
/// [`Error::Shape`] when x is no matrix of floats.
pub fn unit_rows(graph: &mut Graph, x: TensorId) -> Result<TensorId, Error> {
    let squares = graph.map(Stage::Square, x)?;
    let sums = graph.reduce(ReduceOp::Sum, squares, 1, 1)?;
    let sums = graph.affine(sums, 1.0, 1e-24)?;
    let norms = graph.map(Stage::Sqrt, sums)?;
    graph.div(x, norms)
}
