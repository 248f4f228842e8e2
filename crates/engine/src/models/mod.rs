//! Models: what a model folder describes.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use distil_gpu_engine::models;
//!
//! let (config, values) = models::load(Path::new("runs/movie-sentiment/student"))?;
//! println!("{}, {} tensors", config.architecture, values.len());
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

mod answers;
pub mod cnn;
mod cut;
pub mod decoder;
mod documents;
pub mod encoder;
mod feed;
mod file_names;
mod folder;
mod gguf_file;
pub mod hub;
mod inputs;
mod json;
mod linked;
mod mlp;
mod model_type;
mod numbers_file;
mod origin;
mod problem;
mod quantised;
mod registry;
mod saved_as;
mod sentence_files;
mod source;
mod start;
mod timm_file;
mod weights;

use std::fmt::{self, Debug};
use std::sync::Arc;

pub use answers::RawAnswers;
pub use cnn::{EfficientNet, ResNet};
pub use cut::SubsetMap;
pub use decoder::Decoder;
pub use documents::{Document, DocumentHash};
pub use encoder::{Dense, Encoder, Family, Head, SentenceModules, SentenceStep, SharedFamily};
pub use feed::{BatchEncoder, Draw, HostBatch};
pub use folder::{
    CONFIG, INT8_WEIGHTS, WEIGHTS, assumed_pooling, bytes, load, load_config, load_start, open,
    save, save_linked, save_stored, storage,
};
pub use gguf_file::{GgufPrecision, check_gguf, save_gguf};
pub(crate) use inputs::names::FEATURES;
pub(crate) use inputs::names::LABELS;
pub use inputs::{
    Attends, BatchShape, FAR_BELOW, Ids, Input, Inputs, Pooled, Pooling, TokenInput, TokenTensors,
};
pub use linked::LINK;
pub use mlp::Mlp;
pub use model_type::ModelType;
pub use origin::Origin;
pub use problem::ProblemType;
pub use registry::REGISTRY;
pub use source::{Rows, Source};
pub use start::{InitialWeights, Initialization, with_tokens_of_student};
pub use weights::{Naming, Values};

use serde_json::Value;

use crate::data::Normalisation;
use crate::error::Error;
use crate::graph::{Graph, TensorId, ops};
use crate::store::ParameterSpec;

/// A kind of model with its sizes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// Linear layers with an activation between them.
    Mlp(Mlp),
    /// A residual network of convolutions.
    ResNet(ResNet),
    /// A MobileNetV2 or EfficientNet-lite.
    EfficientNet(EfficientNet),
    /// A transformer encoder with a head.
    Encoder(Encoder),
    /// A transformer decoder that guesses next tokens.
    Decoder(Decoder),
}

/// Kind and sizes in a line, for people.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model().summary())
    }
}

impl Architecture {
    /// The model.
    pub fn model(&self) -> &dyn Model {
        match self {
            Self::Mlp(mlp) => mlp,
            Self::ResNet(resnet) => resnet,
            Self::EfficientNet(network) => network,
            Self::Encoder(encoder) => encoder,
            Self::Decoder(decoder) => decoder,
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
    /// What the numbers that it makes of a whole example mean.
    pub problem: ProblemType,
}

/// What a model makes of an example, or of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// So many numbers for an example: logits of classes or of labels, or values; see [`ProblemType`].
    Classes(usize),
    /// Logits of so many classes for each word.
    Tokens(usize),
    /// Logits of each token as the start, and as the end, of an answer.
    Span,
    /// Logits of so many tokens for each masked one, or for the one that follows each.
    Vocabulary(usize),
    /// A vector of so many numbers for an example.
    Embedding(usize),
}

/// A model's layers, for losses that compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Layers.
    pub count: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Attention heads of a layer.
    pub heads: usize,
}

/// What a model's head says of a batch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Logits [rows, classes]; of a token classifier [places, classes], a row for each place that its inputs name.
    Logits(TensorId),
    /// Logits [2 · rows, length] of each token as the start (rows 2i) and as the end (rows 2i + 1) of an answer in
    /// text i; those of padding are far below all others.
    Span(TensorId),
    /// Logits of the whole vocabulary for the batch's places to guess at, before they are made.
    Vocabulary(ops::Decoder),
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
    /// Logits [rows, classes], embeddings [rows, answer_len], or logits of tokens [2 · rows, length].
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model has neither.
    pub fn vectors(&self) -> Result<TensorId, Error> {
        match self.answer {
            Answer::Embedding(vectors) | Answer::Span(vectors) => Ok(vectors),
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

    /// Kind and sizes in a line, for people.
    fn summary(&self) -> String;

    /// What it makes of an example.
    fn output(&self) -> Output;

    /// Its layers, if their hidden states can be compared with those of another model.
    fn layers(&self) -> Option<LayerShape> {
        None
    }

    /// Adds the head that guesses tokens from these last hidden states [tokens, hidden_size], where all else that goes into
    /// its logits are parameters; nothing of a model that has no such head.
    ///
    /// # Errors
    /// When the hidden states do not fit.
    fn head_on(
        &self,
        _graph: &mut Graph,
        _store: usize,
        _hidden: TensorId,
    ) -> Result<Option<ops::Decoder>, Error> {
        Ok(None)
    }

    /// Whether a parameter has a row for each class.
    fn is_output(&self, name: &str) -> bool;

    /// How the names in a file may differ from those of its parameters; `start` where the file may be of a model with
    /// another head.
    fn naming(&self, start: bool) -> Naming {
        let _ = start;
        Naming::default()
    }

    /// Its `config.json`, in a model that says what its classes are and what it reads.
    fn to_json(&self, config: &ModelConfig) -> Value;
}

impl ModelConfig {
    /// A model of classes that exclude each other, or of none.
    pub fn new(architecture: Architecture, input: Input, class_names: Vec<String>) -> Self {
        Self { architecture, input, class_names, problem: ProblemType::default() }
    }

    /// An encoder without a tokenizer.
    pub fn of_encoder(encoder: Encoder, class_names: Vec<String>) -> Self {
        let input = Input::Tokens(encoder.input());
        Self::new(Architecture::Encoder(encoder), input, class_names)
    }

    /// The encoder, if it is one.
    pub fn encoder(&self) -> Option<&Encoder> {
        match &self.architecture {
            Architecture::Encoder(encoder) => Some(encoder),
            _ => None,
        }
    }

    /// The decoder, if it is one.
    pub fn decoder(&self) -> Option<&Decoder> {
        match &self.architecture {
            Architecture::Decoder(decoder) => Some(decoder),
            _ => None,
        }
    }

    /// The encoder, if it is one.
    pub fn encoder_mut(&mut self) -> Option<&mut Encoder> {
        match &mut self.architecture {
            Architecture::Encoder(encoder) => Some(encoder),
            _ => None,
        }
    }

    /// What it makes of an example.
    pub fn output(&self) -> Output {
        self.model().output()
    }

    /// What numbers go through before the model sees them; nothing where it reads texts.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        match &self.input {
            Input::Numbers { normalisation, .. } => Some(normalisation),
            Input::Tokens(_) => None,
        }
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        self.architecture.model()
    }

    /// Answers that it chooses from: classes, or tokens.
    pub fn answers(&self) -> usize {
        match self.output() {
            Output::Vocabulary(tokens) => tokens,
            _ => self.classes(),
        }
    }

    /// Numbers of an answer: logits, or those of an embedding.
    pub fn answer_len(&self) -> usize {
        match self.output() {
            Output::Embedding(width) => width,
            _ => self.classes(),
        }
    }

    /// Whether its answers are embeddings.
    pub fn embeds(&self) -> bool {
        matches!(self.output(), Output::Embedding(_))
    }

    /// Gives the model these classes in the place of its own: for each its `places` among those that it had, whose
    /// rows of the output's `values` move with them.
    pub fn order_classes(
        &mut self,
        values: &mut (impl Rows + ?Sized),
        places: &[usize],
        class_names: &[String],
    ) {
        if !places.iter().copied().eq(0..self.class_names.len()) {
            let rows = Arc::new(places.iter().map(|&place| place as u32).collect());
            for (index, spec) in self.model().parameters().iter().enumerate() {
                if self.model().is_output(&spec.name) {
                    values.choose(index, spec.row_len(), &rows);
                }
            }
        }
        self.class_names = class_names.to_vec();
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Whether training keeps running statistics, of the batches that it sees.
    pub fn has_statistics(&self) -> bool {
        self.model().parameters().iter().any(|spec| !spec.learns())
    }

    /// Number of parameters, running statistics left out.
    pub fn parameter_count(&self) -> usize {
        let parameters = self.model().parameters();
        parameters.iter().filter(|spec| spec.learns()).map(ParameterSpec::len).sum()
    }
}
