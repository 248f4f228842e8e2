//! Models: what a model folder describes.

mod cut;
mod encoder;
mod feed;
mod folder;
pub mod hub;
mod inputs;
mod mlp;
mod origin;
mod sentence_files;
mod start;
mod weights;

use std::fmt::{self, Debug};

pub use cut::Copies;
pub use encoder::{Dense, Encoder, Family, Head, SentenceModules, SentenceStep};
pub use feed::{Draw, Feed, HostBatch};
pub use folder::{
    CONFIG, WEIGHTS, assumed_pooling, check_single_label, load, load_config, load_start, save,
};
pub(crate) use inputs::names::FEATURES;
pub(crate) use inputs::names::LABELS;
pub use inputs::{BatchShape, Ids, Input, Inputs, Pooled, Pooling, TokenInput, TokenTensors};
pub use mlp::Mlp;
pub use origin::Origin;
pub use start::{First, Start, Values};

use crate::data::Normalisation;
use crate::error::Error;
use crate::graph::ops::Decoder;
use crate::graph::{Graph, TensorId};
use crate::store::ParameterSpec;
use crate::words::counted;

/// A kind of model with its sizes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// Linear layers with an activation between them.
    Mlp(Mlp),
    /// A transformer encoder with a head.
    Encoder(Encoder),
}

/// Kind and sizes in a line, for people.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlp(mlp) => {
                let Mlp { input_size, hidden_sizes, num_classes, .. } = mlp;
                let sizes = [&[*input_size][..], hidden_sizes, &[*num_classes]].concat();
                let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                write!(f, "mlp of {} units", sizes.join(", "))
            }
            Self::Encoder(encoder) => {
                let Encoder { num_hidden_layers: layers, num_attention_heads: heads, .. } = encoder;
                write!(
                    f,
                    "{} of {}, {}, hidden_size {}, intermediate_size {}, {}",
                    encoder.family.name(),
                    counted(*layers, "layer"),
                    counted(*heads, "head"),
                    encoder.hidden_size,
                    encoder.intermediate_size,
                    counted(encoder.vocab_size, "token")
                )
            }
        }
    }
}

/// A model without its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Kind and sizes.
    pub architecture: Architecture,
    /// What it reads.
    pub input: Input,
    /// Names of the classes, in the logits' order; none of a model that has no classes.
    pub class_names: Vec<String>,
}

/// What a model's head says of a batch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Logits [rows, classes].
    Logits(TensorId),
    /// Logits of the whole vocabulary for the batch's masked tokens, before they are made.
    Vocabulary(Decoder),
    /// A vector for each example [rows, answer_len].
    Embedding(TensorId),
}

/// What a model makes of a batch.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// What its head says.
    pub answer: Answer,
    /// Hidden states [rows, length, hidden_size]: before the first layer, and behind each; none of a model
    /// that has no such thing.
    pub states: Vec<TensorId>,
    /// What each layer attends with; none of a model that does not.
    pub attention: Vec<SelfAttention>,
}

/// What the heads of a layer attend with, each [rows, length, hidden_size].
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    /// Of the positions that look.
    pub queries: TensorId,
    /// Of the positions that are looked at.
    pub keys: TensorId,
    /// What is seen there.
    pub values: TensorId,
}

impl Outputs {
    /// Logits [rows, classes], or embeddings [rows, hidden_size].
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model has neither.
    pub fn vectors(&self) -> Result<TensorId, Error> {
        match self.answer {
            Answer::Embedding(embedding) => Ok(embedding),
            _ => self.logits(),
        }
    }

    /// Logits [rows, classes].
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model has no classes.
    pub fn logits(&self) -> Result<TensorId, Error> {
        match self.answer {
            Answer::Logits(logits) => Ok(logits),
            _ => Err(Error::Unsupported {
                what: "a model without classes has no logits".to_owned(),
                instead: "give a classifier".to_owned(),
            }),
        }
    }
}

/// What the engine needs of a model.
pub trait Model: Debug {
    /// Its parameters, in a fixed order.
    fn parameters(&self) -> Vec<ParameterSpec>;

    /// Adds the forward pass to the graph, its parameters being those of `store`. Dropout acts only when
    /// `training`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error>;
}

impl ModelConfig {
    /// What numbers go through before the model sees them; nothing where it reads texts.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        match &self.input {
            Input::Numbers { normalisation, .. } => Some(normalisation),
            Input::Tokens(_) => None,
        }
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        match &self.architecture {
            Architecture::Mlp(mlp) => mlp,
            Architecture::Encoder(encoder) => encoder,
        }
    }

    /// Answers that it chooses from: classes, or tokens.
    pub fn answers(&self) -> usize {
        match &self.input {
            Input::Tokens(tokens) if self.input.masks() => tokens.vocab_size,
            _ => self.classes(),
        }
    }

    /// Numbers of an answer: logits, or those of an embedding.
    pub fn answer_len(&self) -> usize {
        match &self.architecture {
            Architecture::Encoder(encoder) if self.embeds() => encoder.embedding_size(),
            _ => self.classes(),
        }
    }

    /// Whether its answers are embeddings.
    pub fn embeds(&self) -> bool {
        matches!(&self.architecture, Architecture::Encoder(e) if e.head == Head::Embedding)
    }

    /// Gives the model these classes in the place of its own: for each its `places` among those that it had, whose
    /// rows of the output's `values` move with them.
    pub fn order_classes(
        &mut self,
        values: &mut [Vec<f32>],
        places: &[usize],
        class_names: &[String],
    ) {
        let classes = self.class_names.len();
        if !places.iter().copied().eq(0..classes) {
            let specs = self.model().parameters();
            let is_output = |index: usize| match &self.architecture {
                // The last layer's weight and bias.
                Architecture::Mlp(_) => index + 2 >= specs.len(),
                Architecture::Encoder(encoder) => encoder.family.is_output(&specs[index].name),
            };
            for (_, values) in values.iter_mut().enumerate().filter(|(index, _)| is_output(*index))
            {
                let width = values.len() / classes;
                let row = |&place: &usize| &values[place * width..][..width];
                *values = places.iter().flat_map(row).copied().collect();
            }
        }
        self.class_names = class_names.to_vec();
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
