//! Models: what `config.json` describes.

mod folder;
mod mlp;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

pub use folder::{CONFIG, WEIGHTS, load, load_config, save};
pub use mlp::Mlp;

use crate::data::{DataError, Dataset, Examples, Normalisation};
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::recipe;
use crate::store::ParameterSpec;

/// A kind of model with its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Architecture {
    /// Linear layers with an activation between them.
    Mlp(Mlp),
}

/// The content of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Kind and sizes.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Shape of one example.
    pub input_shape: Vec<usize>,
    /// Names of the classes, in the logits' order.
    pub class_names: Vec<String>,
    /// What inputs go through before the model sees them.
    pub normalisation: Normalisation,
}

/// What the engine needs of a model.
pub trait Model: Debug {
    /// Its parameters, in a fixed order.
    fn parameters(&self) -> Vec<ParameterSpec>;

    /// Adds to the graph the logits [rows, classes] of inputs [rows, elements], its parameters being those
    /// of `store`. Dropout acts only when `training`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: TensorId,
        training: bool,
    ) -> Result<TensorId, Error>;
}

impl ModelConfig {
    /// A recipe's model for this data.
    pub fn for_data(model: &recipe::Model, data: &Dataset, normalisation: &Normalisation) -> Self {
        let recipe::Model::Mlp { hidden_sizes, activation, dropout, input_dropout } = model;
        let mlp = Mlp {
            input_size: data.shape().iter().product(),
            hidden_sizes: hidden_sizes.clone(),
            num_classes: data.classes(),
            activation: *activation,
            dropout: *dropout,
            input_dropout: *input_dropout,
        };
        Self {
            architecture: Architecture::Mlp(mlp),
            input_shape: data.shape().to_vec(),
            class_names: data.class_names().to_vec(),
            normalisation: normalisation.clone(),
        }
    }

    /// Checks that the model can answer these examples.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when they are of another size, or its normalisation does not fit their shape.
    pub fn check_examples(&self, examples: &Examples) -> Result<(), DataError> {
        if examples.example_len() != self.input_len() {
            return Err(DataError::Unfit(format!(
                "the model takes examples of {:?}, and these are {:?}",
                self.input_shape,
                examples.shape()
            )));
        }
        self.normalisation.check(examples.shape())
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        match &self.architecture {
            Architecture::Mlp(mlp) => mlp,
        }
    }

    /// Elements of one example.
    pub fn input_len(&self) -> usize {
        self.input_shape.iter().product()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.model().parameters().iter().map(ParameterSpec::len).sum()
    }
}
