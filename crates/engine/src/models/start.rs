//! A recipe's model before its first step: what it is, and the values that it starts from.

use std::borrow::Cow;
use std::path::Path;

use super::cnn::efficientnet::Variant;
use super::cut::{SubsetMap, cut};
use super::decoder::Ranking;
use super::decoder::cut::cut as cut_decoder;
use super::decoder::vocabulary::with_known_tokens;
use super::{
    Architecture, EfficientNet, Head, Input, Mlp, ModelConfig, ResNet, Source, Values, load,
    load_config, load_start, open,
};
use crate::data::{DataError, Dataset, Examples, Normalisation, Numbers};
use crate::error::Error;
use crate::recipe::{self, Vocabulary};
use crate::store::ParameterSpec;

/// A model, and where its parameters start.
#[derive(Clone, Debug)]
pub struct Initialization {
    /// The model.
    pub config: ModelConfig,
    /// First values of its parameters.
    pub first: InitialWeights,
}

/// First values of a model's parameters.
#[derive(Clone, Debug)]
pub enum InitialWeights {
    /// These; nothing for those that start at random, and empty if all do.
    Values(Values),
    /// Parts of those that the run's teacher has at its end.
    OfTeacher(SubsetMap),
}

impl InitialWeights {
    /// The values, in the model's order, `teacher` being the folder of the finished teacher; nothing for those that
    /// start at random, and empty if all do.
    ///
    /// # Errors
    /// When the teacher is asked for and cannot be read.
    pub fn values(&self, teacher: &Path) -> Result<Cow<'_, [Option<Vec<f32>>]>, Error> {
        Ok(match self {
            Self::Values(values) => values.into(),
            Self::OfTeacher(_) => self.values_of(Some(&open(teacher)?.1))?.into_owned().into(),
        })
    }

    /// The values, `teacher` being the parameters of the finished teacher, each read when it is copied; as
    /// [`InitialWeights::values`].
    ///
    /// # Errors
    /// When the teacher is asked for and cannot be read.
    pub fn values_of(
        &self,
        teacher: Option<&Source>,
    ) -> Result<Cow<'_, [Option<Vec<f32>>]>, Error> {
        Ok(match self {
            Self::Values(values) => values.into(),
            Self::OfTeacher(copies) => {
                let read = |index| {
                    let values = teacher.map(|teacher| teacher.values(index)).transpose()?;
                    Ok(values.map(Cow::Owned))
                };
                copies.values::<Error>(read)?.into()
            }
        })
    }
}

impl InitialWeights {
    /// The values before a model's first step, `teacher` being the parameters of the finished teacher.
    ///
    /// # Errors
    /// As [`InitialWeights::values_of`].
    pub fn initial(
        &self,
        config: &ModelConfig,
        teacher: Option<&Source>,
        seed: u32,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let specs = config.model().parameters();
        Ok(Initialization::initial(&specs, &self.values_of(teacher)?, seed))
    }
}

impl Initialization {
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
        Self::by_ranking(model, head, data, normalisation, teacher, &Ranking::default())
    }

    /// The same; `ranking` says which parts of a decoder's layers a narrower one takes over, the first ones where it is empty.
    ///
    /// # Errors
    /// As [`Initialization::of`].
    pub fn by_ranking(
        model: &recipe::Model,
        head: Head,
        data: &Dataset,
        normalisation: &Normalisation,
        teacher: Option<&ModelConfig>,
        ranking: &Ranking,
    ) -> Result<Self, Error> {
        if model.reads_numbers() && !matches!(head, Head::Classes(_)) {
            return Err(unfit(&format!(
                "a model of type \"{}\" cannot be {}: give it type \"encoder\"",
                model.type_name(),
                head.name()
            )));
        }
        let documents = matches!(data.examples(), Examples::Documents(_) | Examples::Packed(_));
        match (model, documents) {
            (recipe::Model::Decoder(_), false) if data.numbers().is_none() => {
                return Err(unfit(
                    "a model of type \"decoder\" guesses next tokens, and this task does not: set `task` to \"causal-lm\"",
                ));
            }
            (recipe::Model::Encoder { .. }, true) => {
                return Err(unfit(
                    "a model of type \"encoder\" guesses no next tokens: give it type \"decoder\"",
                ));
            }
            _ => {}
        }
        match (model, data.numbers()) {
            (recipe::Model::Mlp { .. }, Some(numbers)) => {
                let config = perceptron(model, data, numbers, normalisation);
                Ok(Self { config, first: InitialWeights::Values(Vec::new()) })
            }
            (recipe::Model::ResNet(model), Some(numbers)) => {
                let config = resnet(model, data, numbers, normalisation)?;
                Ok(Self { config, first: InitialWeights::Values(Vec::new()) })
            }
            (recipe::Model::EfficientNet(model), Some(numbers)) => {
                efficientnet(model, data, numbers, normalisation)
            }
            (recipe::Model::Encoder { from, .. }, None) => {
                encoder(model, from, head, data, teacher)
            }
            (recipe::Model::Decoder(model), None) => decoder(model, data, teacher, ranking),
            (recipe::Model::Decoder(_), Some(_)) => Err(unfit(
                "a model of type \"decoder\" reads texts, and \
                the data are numbers: give it type \"mlp\"",
            )),
            (model, None) => Err(unfit(&format!(
                "a model of type \"{}\" reads numbers, and the data are texts: give it type \"encoder\"",
                model.type_name()
            ))),
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

/// A teacher that is loaded, with the tokens alone that a recipe leaves its student, so that both guess the same ones.
///
/// # Errors
/// When its vocabulary cannot be trimmed to these data.
pub fn with_tokens_of_student(
    teacher: (ModelConfig, Source),
    student: &recipe::Model,
    data: &Dataset,
) -> Result<(ModelConfig, Source), Error> {
    match student {
        recipe::Model::Decoder(recipe::Decoder { vocabulary, .. }) => {
            with_known_tokens(teacher, *vocabulary, data).map_err(bad("the teacher".to_owned()))
        }
        _ => Ok(teacher),
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

/// Channels, height and width of examples that are pictures, for a model of this type.
fn pictures(numbers: &Numbers, kind: &str) -> Result<[usize; 3], Error> {
    let &[channels, height, width] = numbers.shape() else {
        return Err(unfit(&format!(
            "a model of type \"{kind}\" reads pictures [channels, height, width], and an example is {:?}: give it type \
             \"mlp\"",
            numbers.shape()
        )));
    };
    Ok([channels, height, width])
}

fn resnet(
    model: &recipe::ResNet,
    data: &Dataset,
    numbers: &Numbers,
    normalisation: &Normalisation,
) -> Result<ModelConfig, Error> {
    let [num_channels, height, width] = pictures(numbers, "resnet")?;
    let resnet = ResNet {
        num_channels,
        image_size: [height, width],
        embedding_size: model.embedding_size.unwrap_or(model.hidden_sizes[0]),
        hidden_sizes: model.hidden_sizes.clone(),
        depths: model.depths.clone(),
        pre_activation: model.pre_activation,
        num_classes: data.outputs().len(),
    };
    let (shape, normalisation) = (numbers.shape().to_vec(), normalisation.clone());
    let input = Input::Numbers { shape, normalisation, background: numbers.background() };
    Ok(ModelConfig::new(Architecture::ResNet(resnet), input, data.outputs().to_vec()))
}

fn efficientnet(
    model: &recipe::EfficientNet,
    data: &Dataset,
    numbers: &Numbers,
    normalisation: &Normalisation,
) -> Result<Initialization, Error> {
    let shape = pictures(numbers, "efficientnet")?;
    let [num_channels, height, width] = shape;
    let asked = model.architecture.as_deref().and_then(Variant::named);
    let config = |variant, normalisation: Normalisation| {
        let (image_size, num_classes) = ([height, width], data.outputs().len());
        let network = EfficientNet { variant, num_channels, image_size, num_classes };
        let input = Input::Numbers {
            shape: shape.to_vec(),
            normalisation,
            background: numbers.background(),
        };
        ModelConfig::new(Architecture::EfficientNet(network), input, data.outputs().to_vec())
    };
    let origin = match (&model.from, asked) {
        (Some(recipe::Base::Model(origin)), _) => origin,
        (_, Some(variant)) => {
            let config = config(variant, normalisation.clone());
            return Ok(Initialization { config, first: InitialWeights::Values(Vec::new()) });
        }
        _ => {
            return Err(unfit(
                "a model of type \"efficientnet\" needs its `architecture`, or a folder in `from`",
            ));
        }
    };
    let problem = bad(origin.to_string());
    let (base, values) = load(&origin.folder()?)?;
    let (Architecture::EfficientNet(theirs), Some(normalisation)) =
        (&base.architecture, base.normalisation())
    else {
        return Err(problem(format!(
            "it holds {}, and no model of type \"efficientnet\"",
            base.architecture
        )));
    };
    if asked.is_some_and(|asked| asked != theirs.variant) {
        let is = theirs.variant.name;
        return Err(problem(format!("its architecture is {is}: leave `architecture` out")));
    }
    let (normalisation, sums) = match (num_channels, theirs.num_channels) {
        (ours, theirs) if ours == theirs => (normalisation.clone(), false),
        (1, _) => (grey(normalisation), true),
        (ours, theirs) => {
            return Err(problem(format!(
                "it reads pictures of {theirs} channels, and the data's have {ours}: set `data.channels` to {theirs}"
            )));
        }
    };
    let config = config(theirs.variant, normalisation);
    let first = config.model().parameters().into_iter().zip(values).map(|(spec, values)| {
        let is_stem = sums && spec.name == "conv_stem.weight";
        match is_stem {
            true => {
                Some(values.chunks(theirs.num_channels).map(|taps| taps.iter().sum()).collect())
            }
            false => (!config.model().is_output(&spec.name)).then_some(values),
        }
    });
    let first = InitialWeights::Values(first.collect());
    Ok(Initialization { config, first })
}

/// What grey pictures go through in the place of coloured ones: the channels' means.
fn grey(normalisation: &Normalisation) -> Normalisation {
    let mean = |list: &[f32]| vec![list.iter().sum::<f32>() / list.len().max(1) as f32];
    Normalisation { mean: mean(&normalisation.mean), std: mean(&normalisation.std) }
}

fn bad(path: String) -> impl FnOnce(String) -> Error {
    move |problem| Error::Model { path, problem }
}

fn decoder(
    model: &recipe::Decoder,
    data: &Dataset,
    teacher: Option<&ModelConfig>,
    ranking: &Ranking,
) -> Result<Initialization, Error> {
    match (&model.from, teacher) {
        (recipe::Base::Model(origin), _) => {
            let folder = origin.folder()?;
            let (base, values) = match model.random {
                true => (load_config(&folder)?, Vec::new()),
                false => load(&folder)?,
            };
            let (config, copies) =
                cut_decoder(model, &base, data, ranking).map_err(bad(origin.to_string()))?;
            let values = copies.known(|index| values.get(index).map(|values| &**values));
            Ok(Initialization { config, first: InitialWeights::Values(values) })
        }
        (recipe::Base::Teacher, Some(base)) => {
            let problem = bad("student.model.from, the teacher".to_owned());
            // It knows the student's tokens alone already, or the tasks refuse the two.
            let tokens = recipe::Decoder { vocabulary: Vocabulary::Full, ..model.clone() };
            let (config, copies) = cut_decoder(&tokens, base, data, ranking).map_err(problem)?;
            let first = match model.random {
                true => InitialWeights::Values(Vec::new()),
                false => InitialWeights::OfTeacher(copies),
            };
            Ok(Initialization { config, first })
        }
        (recipe::Base::Teacher, None) => Err(unfit(NO_TEACHER)),
    }
}

const NO_TEACHER: &str = "a model cannot start from the teacher where the teacher is no model";

fn encoder(
    model: &recipe::Model,
    from: &recipe::Base,
    head: Head,
    data: &Dataset,
    teacher: Option<&ModelConfig>,
) -> Result<Initialization, Error> {
    let random = matches!(model, recipe::Model::Encoder { random: true, .. });
    match (from, teacher) {
        (recipe::Base::Model(origin), _) => {
            let (base, values) = load_start(&origin.folder()?, head, random)?;
            let problem = bad(origin.to_string());
            let (config, copies) = cut(model, head, &base, data).map_err(problem)?;
            Ok(Initialization {
                config,
                first: InitialWeights::Values(copies.known(|index| values[index].as_deref())),
            })
        }
        (recipe::Base::Teacher, Some(base)) => {
            let problem = bad("student.model.from, the teacher".to_owned());
            let (config, copies) = cut(model, head, base, data).map_err(problem)?;
            Ok(Initialization { config, first: InitialWeights::OfTeacher(copies) })
        }
        (recipe::Base::Teacher, None) => Err(unfit(NO_TEACHER)),
    }
}
