//! Multi-layer perceptrons.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file_names::{CONFIG, bad};
use super::model_type::ModelType;
use super::numbers_file::NumbersFile;
use super::{Answer, Architecture, Inputs, Model, ModelConfig, Output, Outputs};
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{self, Activation};
use crate::store::ParameterSpec;

/// `model_type` of perceptrons.
const NAME: &str = "mlp";

/// Perceptrons' line in the registry.
pub const TYPE: ModelType = ModelType::new(NAME, read);

/// `config.json` of a perceptron.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    model_type: String,
    #[serde(flatten)]
    mlp: Mlp,
    /// Shape of one example.
    input_shape: Vec<usize>,
    #[serde(flatten)]
    rest: NumbersFile,
}

/// Linear layers with an activation and dropout between them. Parameters `layers.<i>.weight` [out, in] and
/// `layers.<i>.bias` \[out].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mlp {
    /// Elements of one example.
    pub input_size: usize,
    /// Units of each hidden layer; may be empty.
    pub hidden_sizes: Vec<usize>,
    /// Number of classes.
    pub num_classes: usize,
    /// Between the layers.
    pub activation: Activation,
    /// Probability of dropping a hidden unit in training.
    pub dropout: f32,
    /// Probability of dropping an input in training.
    pub input_dropout: f32,
}

impl Mlp {
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.input_size];
        widths.extend(&self.hidden_sizes);
        widths.push(self.num_classes);
        widths
    }
}

impl Model for Mlp {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let widths = self.widths();
        let layer =
            |(i, pair): (usize, &[usize])| nn::linear_parameters(&name(i), pair[0], pair[1]);
        widths.windows(2).enumerate().flat_map(layer).collect()
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        let Inputs::Numbers(features) = *inputs else {
            let needed = "a model of numbers reads features".to_owned();
            return Err(Error::Shape { op: "mlp", found: format!("{inputs:?}"), needed });
        };
        let rate = |rate| if training { rate } else { 0.0 };
        let mut x = nn::dropout(graph, features, rate(self.input_dropout), 0)?;
        let hidden = self.hidden_sizes.len();
        for layer in 0..hidden {
            x = nn::linear(graph, store, &name(layer), x)?;
            x = nn::activate(graph, self.activation, x, rate(self.dropout), 1 + layer as u32)?;
        }
        let logits = nn::linear(graph, store, &name(hidden), x)?;
        Ok(Outputs { answer: Answer::Logits(logits), states: Vec::new(), attention: Vec::new() })
    }

    fn summary(&self) -> String {
        let sizes: Vec<String> = self.widths().iter().map(ToString::to_string).collect();
        format!("mlp of {} units", sizes.join(", "))
    }

    fn output(&self) -> Output {
        Output::Classes(self.num_classes)
    }

    fn is_output(&self, parameter: &str) -> bool {
        let last = name(self.hidden_sizes.len());
        parameter.strip_prefix(&*last).is_some_and(|part| part.starts_with('.'))
    }

    fn to_json(&self, config: &ModelConfig) -> Value {
        let (rest, input_shape) = NumbersFile::of(config);
        let file = File { model_type: NAME.to_owned(), mlp: self.clone(), input_shape, rest };
        serde_json::to_value(file).expect("a configuration is plain data")
    }
}

fn read(folder: &Path, json: &Value) -> Result<ModelConfig, Error> {
    let path = folder.join(CONFIG);
    let file = File::deserialize(json)
        .map_err(|error| bad(&path, format!("not a model configuration: {error}")))?;
    check(&file).map_err(|problem| bad(&path, problem))?;
    let File { mlp, input_shape, rest, .. } = file;
    Ok(rest.into_config(Architecture::Mlp(mlp), input_shape))
}

/// Name of a layer, without `.weight` and `.bias`.
fn name(layer: usize) -> String {
    format!("layers.{layer}")
}

/// Sizes that no file may make us believe.
fn check(config: &File) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    const MOST_LAYERS: usize = 4096;
    let mlp = &config.mlp;
    if mlp.hidden_sizes.len() > MOST_LAYERS {
        return Err(format!(
            "{} hidden_sizes are more than the {MOST_LAYERS} that are possible",
            mlp.hidden_sizes.len()
        ));
    }
    let sizes =
        [&[mlp.input_size, mlp.num_classes][..], &mlp.hidden_sizes, &config.input_shape].concat();
    if let Some(size) = sizes.iter().find(|&&size| size == 0 || size > MOST) {
        return Err(format!("a size of {size} is not possible (1 to {MOST} are)"));
    }
    let elements = config.input_shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
    if elements != Some(mlp.input_size) {
        return Err(format!(
            "input_shape {:?} is not input_size {}",
            config.input_shape, mlp.input_size
        ));
    }
    config.rest.check(mlp.num_classes, &config.input_shape)?;
    if !(0.0..1.0).contains(&mlp.dropout) || !(0.0..1.0).contains(&mlp.input_dropout) {
        return Err("dropout must be at least 0 and below 1".to_owned());
    }
    Ok(())
}
