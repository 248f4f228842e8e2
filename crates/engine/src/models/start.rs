//! A recipe's model before its first step: what it is, and the values that it starts from.

use super::{Architecture, Encoder, Head, Input, Mlp, ModelConfig, load_start};
use crate::data::{DataError, Dataset, Normalisation, Numbers};
use crate::error::Error;
use crate::recipe::{self, Task};
use crate::store::ParameterSpec;

/// A model, and where its parameters start.
#[derive(Clone, Debug)]
pub struct Start {
    /// The model.
    pub config: ModelConfig,
    /// First values of its parameters, in the model's order; nothing for those that start at random, and empty if
    /// all do.
    pub parameters: Vec<Option<Vec<f32>>>,
}

impl Start {
    /// A recipe's model for its task and this data. `normalisation` is what numbers go through.
    ///
    /// # Errors
    /// When data and model do not go together, or the model that it starts from cannot be read.
    pub fn of(
        model: &recipe::Model,
        task: Task,
        data: &Dataset,
        normalisation: &Normalisation,
    ) -> Result<Self, Error> {
        match (model, data.numbers()) {
            (recipe::Model::Mlp { .. }, Some(numbers)) => {
                let config = perceptron(model, data, numbers, normalisation);
                Ok(Self { config, parameters: Vec::new() })
            }
            (recipe::Model::Encoder { .. }, None) => encoder(model, task, data),
            (recipe::Model::Mlp { .. }, None) => Err(unfit(
                "a model of type \"mlp\" reads numbers, and \
                the data are texts: give it type \"encoder\"",
            )),
            (recipe::Model::Encoder { .. }, Some(_)) => Err(unfit(
                "a model of type \"encoder\" reads texts, and \
                the data are numbers: give it type \"mlp\"",
            )),
        }
    }

    /// The values before the first step.
    pub fn initial(
        specs: &[ParameterSpec],
        start: &[Option<Vec<f32>>],
        seed: u32,
    ) -> Vec<Vec<f32>> {
        let values = |(index, spec): (usize, &ParameterSpec)| match start.get(index) {
            Some(Some(values)) => values.clone(),
            _ => spec.initial(seed, index),
        };
        specs.iter().enumerate().map(values).collect()
    }
}

fn unfit(problem: &str) -> Error {
    DataError::Unfit(problem.to_owned()).into()
}

fn perceptron(
    model: &recipe::Model,
    data: &Dataset,
    numbers: &Numbers,
    normalisation: &Normalisation,
) -> ModelConfig {
    let recipe::Model::Mlp { hidden_sizes, activation, dropout, input_dropout } = model else {
        unreachable!("it is one");
    };
    let mlp = Mlp {
        input_size: numbers.example_len(),
        hidden_sizes: hidden_sizes.clone(),
        num_classes: data.classes(),
        activation: *activation,
        dropout: *dropout,
        input_dropout: *input_dropout,
    };
    let (shape, normalisation) = (numbers.shape().to_vec(), normalisation.clone());
    ModelConfig {
        architecture: Architecture::Mlp(mlp),
        input: Input::Numbers { shape, normalisation },
        class_names: data.class_names().to_vec(),
    }
}

fn encoder(model: &recipe::Model, task: Task, data: &Dataset) -> Result<Start, Error> {
    let recipe::Model::Encoder { from, layers, max_length, dropout } = model else {
        unreachable!("it is one");
    };
    let bad = |problem: String| Error::Model { path: from.to_string(), problem };
    let Start { config: base, parameters: values } = load_start(&from.folder()?, task)?;
    let (Architecture::Encoder(theirs), Input::Tokens(tokens)) = (&base.architecture, &base.input)
    else {
        return Err(bad("it is no transformer encoder".to_owned()));
    };
    let all: Vec<usize> = (0..theirs.num_hidden_layers).collect();
    let taken = layers.as_ref().unwrap_or(&all);
    if let Some(layer) = taken.iter().find(|&&layer| layer >= all.len()) {
        let count = all.len();
        return Err(bad(format!("it has no layer {layer}: its {count} layers are counted from 0")));
    }
    let head = Head::of_task(task, data.classes());
    let mut ours = Encoder { num_hidden_layers: taken.len(), head, ..theirs.clone() };
    if let Some(rate) = *dropout {
        (ours.hidden_dropout, ours.attention_dropout, ours.classifier_dropout) = (rate, rate, rate);
    }
    let mut tokens = tokens.clone();
    tokens.max_length = max_length.map_or(tokens.max_length, |most| most.min(tokens.max_length));
    let config = ModelConfig {
        architecture: Architecture::Encoder(ours),
        input: Input::Tokens(tokens),
        class_names: data.class_names()[..head.classes()].to_vec(),
    };
    // A classifier of other classes is of no use.
    let same_classes = base.class_names == config.class_names;
    let old = base.model().parameters();
    let origin = |spec: &ParameterSpec| {
        let family = theirs.family;
        let name = family.of_layer(&spec.name, |layer| taken[layer]);
        let is_output = !same_classes && family.is_output(&spec.name);
        let index = old.iter().position(|known| known.name == name).filter(|_| !is_output)?;
        values[index].clone()
    };
    let parameters = config.model().parameters().iter().map(origin).collect();
    Ok(Start { config, parameters })
}
