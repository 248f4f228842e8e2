//! What `config.json` of a model of numbers, pictures among them, says beside its sizes.

use serde::{Deserialize, Serialize};

use super::{Architecture, Input, ModelConfig, ProblemType};
use crate::data::{Colour, Normalisation};

/// The part of the file that all such models have.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NumbersFile {
    /// Names of the classes, in the logits' order.
    class_names: Vec<String>,
    /// What inputs go through before the model sees them.
    normalisation: Normalisation,
    /// The colour that pictures showed in training where they were transparent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    background: Option<Colour>,
    /// What the outputs mean.
    #[serde(default, skip_serializing_if = "ProblemType::is_single_label")]
    problem_type: ProblemType,
}

impl NumbersFile {
    /// Of a model, and the shape of one of its inputs.
    ///
    /// # Panics
    /// When it reads no numbers.
    pub fn of(config: &ModelConfig) -> (Self, Vec<usize>) {
        let Input::Numbers { shape, normalisation, background } = &config.input else {
            unreachable!("a model of numbers reads numbers")
        };
        let file = Self {
            class_names: config.class_names.clone(),
            normalisation: normalisation.clone(),
            background: *background,
            problem_type: config.problem,
        };
        (file, shape.clone())
    }

    /// Refuses what does not fit a model of so many outputs whose inputs have this shape.
    pub fn check(&self, num_classes: usize, shape: &[usize]) -> Result<(), String> {
        if self.class_names.len() != num_classes {
            let names = self.class_names.len();
            return Err(format!("{names} class_names for num_classes {num_classes}"));
        }
        self.normalisation.check(shape).map_err(|error| error.to_string())
    }

    /// The model.
    pub fn into_config(self, architecture: Architecture, shape: Vec<usize>) -> ModelConfig {
        let Self { class_names, normalisation, background, problem_type: problem } = self;
        let input = Input::Numbers { shape, normalisation, background };
        ModelConfig { problem, ..ModelConfig::new(architecture, input, class_names) }
    }
}
