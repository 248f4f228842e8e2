//! `model = { … }`: a kind of model and its settings, before the data give it its input and output.

use serde::{Deserialize, Serialize};

use super::document::Table;
use super::error::RecipeError;
use super::rules::{BELOW_ONE, COUNT, FLAG, Rule, SIZE, WIDTHS, numbers, text};
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
    /// A transformer encoder of the BERT family, which starts from a trained one, or from one's configuration.
    Encoder {
        /// The one it starts from.
        from: Base,
        /// The layers that it takes over; all unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        layers: Option<Layers>,
        /// Whether its weights start at random: of the folder, only `config.json` and the tokenizer are read then.
        random: bool,
        /// Width of a token's hidden state; as that of the one it starts from unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        hidden_size: Option<usize>,
        /// Attention heads of a layer; unless given, as many as keep their width.
        #[serde(skip_serializing_if = "Option::is_none")]
        num_attention_heads: Option<usize>,
        /// Width within a feed-forward layer; as that of the one it starts from unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        intermediate_size: Option<usize>,
        /// Which of its tokens it knows; all unless given.
        #[serde(default, skip_serializing_if = "Vocabulary::is_full")]
        vocabulary: Vocabulary,
        /// Most tokens of a text, what is longer being cut; as many as it has positions for unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_length: Option<usize>,
        /// Probability of dropping an element of a hidden state, in [0, 1); as in its configuration unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropout: Option<f32>,
    },
}

/// What a model starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The run's own teacher, once it is trained or loaded.
    Teacher,
    /// Another model, as Hugging Face transformers saves it.
    #[serde(untagged)]
    Model(Origin),
}

/// The layers that a model takes over from the one it starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layers {
    /// Every other one, from the first on.
    Alternate,
    /// These, counted from 0.
    #[serde(untagged)]
    Listed(Vec<usize>),
}

impl Layers {
    /// Their numbers, of so many layers.
    pub fn of(&self, count: usize) -> Vec<usize> {
        match self {
            Self::Alternate => (0..count).step_by(2).collect(),
            Self::Listed(layers) => layers.clone(),
        }
    }
}

/// Which tokens a model knows of those that the one it starts from does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vocabulary {
    /// All.
    #[default]
    Full,
    /// Those that the training texts use, with what spells other words; see [`crate::data::text::trim`].
    Trimmed,
    /// Those that the training texts use at least so often, with what spells other words.
    #[serde(untagged)]
    Common {
        /// How often; above 0.
        min_count: u32,
    },
}

impl Vocabulary {
    fn is_full(&self) -> bool {
        *self == Self::Full
    }

    /// How often the training texts must use a token; nothing where all tokens stay.
    pub fn min_count(self) -> Option<u32> {
        match self {
            Self::Full => None,
            Self::Trimmed => Some(1),
            Self::Common { min_count } => Some(min_count),
        }
    }

    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        if !table.has_table("vocabulary") {
            let words = [("full", Self::Full), ("trimmed", Self::Trimmed)];
            return Ok(table.choice("vocabulary", &words)?.unwrap_or_default());
        }
        let common = table.need_table("vocabulary", "a table")?;
        common.known(&["min_count"])?;
        Ok(Self::Common { min_count: common.need("min_count", &COUNT)? })
    }
}

const BASE: Rule<Base> = Rule {
    allowed: "a folder's path, hf:OWNER/NAME, hf:OWNER/NAME@REVISION or teacher, in quotes",
    read: |value| match text(value)?.as_str() {
        "teacher" => Some(Base::Teacher),
        other => Origin::of(other.as_ref()).ok().map(Base::Model),
    },
};
const LAYERS: Rule<Layers> = Rule {
    allowed: "\"alternate\", or a list of one or more layer numbers, counted from 0",
    read: |value| match text(value) {
        Some(word) => (word == "alternate").then_some(Layers::Alternate),
        None => numbers(value).filter(|layers| !layers.is_empty()).map(Layers::Listed),
    },
};

type Reader = fn(&Table<'_>) -> Result<Model, RecipeError>;

impl Model {
    /// Whether it starts from the run's teacher.
    pub fn follows_teacher(&self) -> bool {
        matches!(self, Self::Encoder { from: Base::Teacher, .. })
    }

    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        let kinds: [(&str, Reader); 2] = [("mlp", mlp), ("encoder", encoder)];
        table.need_choice("type", &kinds)?(table)
    }
}

fn encoder(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&[
        "type",
        "from",
        "layers",
        "random",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "vocabulary",
        "max_length",
        "dropout",
    ])?;
    let from = match table.need("from", &BASE)? {
        Base::Teacher => Base::Teacher,
        Base::Model(_) => Base::Model(table.origin("from")?),
    };
    Ok(Model::Encoder {
        from,
        layers: table.get("layers", &LAYERS)?,
        random: table.get("random", &FLAG)?.unwrap_or(false),
        hidden_size: table.get("hidden_size", &SIZE)?,
        num_attention_heads: table.get("num_attention_heads", &SIZE)?,
        intermediate_size: table.get("intermediate_size", &SIZE)?,
        vocabulary: Vocabulary::read(table)?,
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
