//! A recipe's model before its first step: what it is, and the values that it starts from.

use std::borrow::Cow;
use std::path::Path;

use super::cut::{Copies, cut};
use super::{Architecture, Head, Input, Mlp, ModelConfig, load, load_start};
use crate::data::{DataError, Dataset, Normalisation, Numbers};
use crate::error::Error;
use crate::recipe;
use crate::store::ParameterSpec;

/// A model, and where its parameters start.
#[derive(Clone, Debug)]
pub struct Start {
    /// The model.
    pub config: ModelConfig,
    /// First values of its parameters.
    pub first: First,
}

/// Values of a model's parameters, in its order, where there are any.
pub type Values = Vec<Option<Vec<f32>>>;

/// First values of a model's parameters.
#[derive(Clone, Debug)]
pub enum First {
    /// These; nothing for those that start at random, and empty if all do.
    Values(Values),
    /// Parts of those that the run's teacher has at its end.
    OfTeacher(Copies),
}

impl First {
    /// The values, in the model's order, `teacher` being the folder of the finished teacher; nothing for those that
    /// start at random, and empty if all do.
    ///
    /// # Errors
    /// When the teacher is asked for and cannot be read.
    pub fn values(&self, teacher: &Path) -> Result<Cow<'_, [Option<Vec<f32>>]>, Error> {
        Ok(match self {
            Self::Values(values) => values.into(),
            Self::OfTeacher(_) => self.values_of(&load(teacher)?.1).into_owned().into(),
        })
    }

    /// The values, `teacher` being the parameters of the finished teacher; as [`First::values`].
    pub fn values_of(&self, teacher: &[Vec<f32>]) -> Cow<'_, [Option<Vec<f32>>]> {
        match self {
            Self::Values(values) => values.into(),
            Self::OfTeacher(copies) => {
                copies.values(|index| teacher.get(index).map(|v| &**v)).into()
            }
        }
    }
}

impl Start {
    /// A recipe's model with this head for these data. `normalisation` is what numbers go through, `teacher` the model
    /// that a student may start from.
    ///
    /// # Errors
    /// When data and model do not go together, or the model that it starts from cannot be read.
    pub fn of(
        model: &recipe::Model,
        head: Head,
        data: &Dataset,
        normalisation: &Normalisation,
        teacher: Option<&ModelConfig>,
    ) -> Result<Self, Error> {
        if matches!(model, recipe::Model::Mlp { .. }) && !matches!(head, Head::Classes(_)) {
            return Err(unfit(&format!(
                "a model of type \"mlp\" cannot be {}: give it type \"encoder\"",
                head.name()
            )));
        }
        match (model, data.numbers()) {
            (recipe::Model::Mlp { .. }, Some(numbers)) => {
                let config = perceptron(model, data, numbers, normalisation);
                Ok(Self { config, first: First::Values(Vec::new()) })
            }
            (recipe::Model::Encoder { from, .. }, None) => {
                encoder(model, from, head, data, teacher)
            }
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
        num_classes: data.outputs().len(),
        activation: *activation,
        dropout: *dropout,
        input_dropout: *input_dropout,
    };
    let (shape, normalisation) = (numbers.shape().to_vec(), normalisation.clone());
    let background = numbers.background();
    let input = Input::Numbers { shape, normalisation, background };
    ModelConfig::new(Architecture::Mlp(mlp), input, data.outputs().to_vec())
}

fn encoder(
    model: &recipe::Model,
    from: &recipe::Base,
    head: Head,
    data: &Dataset,
    teacher: Option<&ModelConfig>,
) -> Result<Start, Error> {
    let bad = |path: String| move |problem: String| Error::Model { path, problem };
    let random = matches!(model, recipe::Model::Encoder { random: true, .. });
    match (from, teacher) {
        (recipe::Base::Model(origin), _) => {
            let (base, values) = load_start(&origin.folder()?, head, random)?;
            let problem = bad(origin.to_string());
            let (config, copies) = cut(model, head, &base, data).map_err(problem)?;
            Ok(Start {
                config,
                first: First::Values(copies.values(|index| values[index].as_deref())),
            })
        }
        (recipe::Base::Teacher, Some(base)) => {
            let problem = bad("student.model.from, the teacher".to_owned());
            let (config, copies) = cut(model, head, base, data).map_err(problem)?;
            Ok(Start { config, first: First::OfTeacher(copies) })
        }
        (recipe::Base::Teacher, None) => {
            Err(unfit("a model cannot start from the teacher where the teacher is no model"))
        }
    }
}
