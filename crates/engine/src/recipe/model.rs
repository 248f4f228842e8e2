//! `model = { … }`: a kind of model and its settings, before the data give it its input and output.

use serde::{Deserialize, Serialize};

use super::document::Table;
use super::error::RecipeError;
use super::rules::{BELOW_ONE, LAYERS, SIZE, WIDTHS};
use crate::models::Origin;
use crate::nn::Activation;

/// A model as a recipe describes it; the data add the shape of an example and the number of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Model {
    /// A multi-layer perceptron: linear layers with an activation and dropout between them.
    Mlp {
        /// Units of each hidden layer.
        hidden_sizes: Vec<usize>,
        /// Between the layers.
        activation: Activation,
        /// Probability of dropping a hidden unit in training, in [0, 1).
        dropout: f32,
        /// Probability of dropping an input in training, in [0, 1).
        input_dropout: f32,
    },
    /// A transformer encoder of the BERT family with a classifier, which starts from a trained one.
    Encoder {
        /// The folder of the one it starts from, as Hugging Face transformers saves it, or a model of the hub.
        from: Origin,
        /// The layers that it takes over, counted from 0; all unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        layers: Option<Vec<usize>>,
        /// Most tokens of a text, what is longer being cut; as many as it has positions for unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_length: Option<usize>,
        /// Probability of dropping an element of a hidden state, in [0, 1); as in its configuration unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropout: Option<f32>,
    },
}

type Reader = fn(&Table<'_>) -> Result<Model, RecipeError>;

impl Model {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        let kinds: [(&str, Reader); 2] = [("mlp", mlp), ("encoder", encoder)];
        table.need_choice("type", &kinds)?(table)
    }
}

fn encoder(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&["type", "from", "layers", "max_length", "dropout"])?;
    Ok(Model::Encoder {
        from: table.origin("from")?,
        layers: table.get("layers", &LAYERS)?,
        max_length: table.get("max_length", &SIZE)?,
        dropout: table.get("dropout", &BELOW_ONE)?,
    })
}

fn mlp(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&["type", "hidden_sizes", "activation", "dropout", "input_dropout"])?;
    let activations =
        [("relu", Activation::Relu), ("gelu", Activation::Gelu), ("tanh", Activation::Tanh)];
    Ok(Model::Mlp {
        hidden_sizes: table.need("hidden_sizes", &WIDTHS)?,
        activation: table.choice("activation", &activations)?.unwrap_or_default(),
        dropout: table.get("dropout", &BELOW_ONE)?.unwrap_or(0.0),
        input_dropout: table.get("input_dropout", &BELOW_ONE)?.unwrap_or(0.0),
    })
}
