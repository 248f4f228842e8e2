//! Parameters of the usual layers: their shapes, and how they start.

use crate::store::{Init, ParameterSpec};

/// Spread of new weights, as in the papers' models.
pub const INITIALISER_RANGE: f32 = 0.02;

/// A matrix of weights, or a table of embeddings.
pub fn table(name: String, rows: usize, columns: usize) -> ParameterSpec {
    ParameterSpec {
        name,
        shape: vec![rows, columns],
        decay: true,
        init: Init::Normal(INITIALISER_RANGE),
    }
}

/// A bias of so many outputs.
pub fn bias_of(name: &str, outputs: usize) -> ParameterSpec {
    let (shape, init) = (vec![outputs], Init::Constant(0.0));
    ParameterSpec { name: name.to_owned(), shape, decay: false, init }
}

/// The weight and the bias of a linear layer.
pub fn linear(name: &str, inputs: usize, outputs: usize) -> [ParameterSpec; 2] {
    let bias = bias_of(&format!("{name}.bias"), outputs);
    [table(format!("{name}.weight"), outputs, inputs), bias]
}

/// The weight and the bias of a norm.
pub fn norm(name: &str, size: usize) -> [ParameterSpec; 2] {
    [("weight", 1.0), ("bias", 0.0)].map(|(part, start)| ParameterSpec {
        name: format!("{name}.{part}"),
        shape: vec![size],
        decay: false,
        init: Init::Constant(start),
    })
}
