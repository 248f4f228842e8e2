//! Transformer encoders, each family in a file of its own.
//!
//! Parameters have the names and shapes that Hugging Face transformers gives them.

pub mod albert;
pub mod bert;
pub mod deberta;
pub mod distilbert;
pub mod electra;
mod family;
mod file;
mod head;
pub mod modernbert;
pub mod mpnet;
mod pass;
pub mod roberta;
mod sentence;

use super::inputs::{Inputs, Pooling, TokenInput};
use super::model_type::ModelType;
use super::weights::Naming;
use super::{LayerShape, Model, ModelConfig, Output, Outputs};
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::Activation;
use crate::store::{Init, ParameterSpec};
use crate::words::counted;

use family::LanguageNames;
pub use family::{Family, ReadFamily, SharedFamily};
pub(super) use file::Read;
pub use head::Head;
use pass::{Pass, TAGGER, decoder_names};
pub use sentence::{Dense, SentenceModules, SentenceStep};
pub(super) use sentence::{FIRST_STEP, dense_folder};

/// A family's line in the registry.
const fn model_type<F: ReadFamily>(name: &'static str) -> ModelType {
    ModelType::new(name, |folder, json| {
        super::folder::read_encoder(folder, file::of_json::<F>(json))
    })
}

/// A stack of attention and feed-forward layers with a head on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// Whose names and details it has.
    pub family: SharedFamily,
    /// Tokens there are.
    pub vocab_size: usize,
    /// Width of a token's hidden state.
    pub hidden_size: usize,
    /// Width of a token's embedding, where that is another.
    pub embedding_size: Option<usize>,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Width within a feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the position table.
    pub max_position_embeddings: usize,
    /// Rows of the table of token types; 0 without one.
    pub type_vocab_size: usize,
    /// Number of the padding token.
    pub pad_token_id: usize,
    /// Within a feed-forward layer.
    pub activation: Activation,
    /// Added to variances.
    pub layer_norm_eps: f32,
    /// Probability of dropping an element of a hidden state in training.
    pub hidden_dropout: f32,
    /// Probability of dropping an attention weight in training.
    pub attention_dropout: f32,
    /// Probability of dropping an element before the classifier in training.
    pub classifier_dropout: f32,
    /// What its hidden states are made into.
    pub head: Head,
    /// Whether the decoder of a masked language model has the table of words as its weight.
    pub tie_word_embeddings: bool,
    /// How a vector is made of them where the head is for embeddings; the default elsewhere.
    pub sentence: SentenceModules,
}

/// Spread of new weights, as in the papers' models.
const INITIALISER_RANGE: f32 = 0.02;

/// BERT base for embeddings.
impl Default for Encoder {
    fn default() -> Self {
        Self {
            family: bert::Bert.into(),
            vocab_size: 30_522,
            hidden_size: 768,
            embedding_size: None,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            pad_token_id: 0,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: 0.1,
            head: Head::Embedding,
            tie_word_embeddings: true,
            sentence: SentenceModules::default(),
        }
    }
}

impl Encoder {
    /// Row of the position table, if there is one, for the first token: some families count from behind the padding
    /// token.
    fn first_position(&self) -> Option<usize> {
        let first = if self.family.counts_from_padding() { self.pad_token_id + 1 } else { 0 };
        self.family.has_positions().then_some(first)
    }

    /// Most tokens of a text.
    pub fn max_length(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position().unwrap_or(0))
    }

    /// What of a text its head works on.
    pub fn pooling(&self) -> Pooling {
        match self.head {
            Head::Classes(_) => self.family.classifier_pooling(),
            Head::Tokens(_) => Pooling::Words,
            Head::Span => Pooling::Tokens,
            Head::Embedding => self.sentence.pooling,
            Head::MaskedLanguage => Pooling::Masked,
        }
    }

    /// Numbers of an embedding of a text.
    pub fn sentence_width(&self) -> usize {
        self.sentence.width(self.hidden_size)
    }

    /// Width of a token's embedding.
    pub fn embedding_width(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    /// Gives it another head. How vectors are made stays where the head is for embeddings.
    pub(super) fn set_head(&mut self, head: Head) {
        self.head = head;
        if head != Head::Embedding {
            self.sentence = SentenceModules::default();
        }
    }

    /// What it reads of a text, except how that becomes tokens.
    pub fn input(&self) -> TokenInput {
        TokenInput {
            tokenizer: None,
            vocab_size: self.vocab_size,
            max_length: self.max_length(),
            type_vocab_size: self.type_vocab_size,
            first_position: self.first_position(),
            pooling: self.pooling(),
        }
    }

    /// Whether a parameter has a row for each token.
    pub(super) fn is_of_tokens(&self, name: &str) -> bool {
        let decoder = decoder_names(self);
        name == self.family.names().words || decoder.iter().any(|own| own == name)
    }

    /// Beginnings of names that a file may have beside this model's. Where a model is started from one with another
    /// head, those of all heads.
    fn unneeded(&self, of_other_head: bool) -> Vec<String> {
        let names = self.family.names();
        let own = names.heads.of(self.head);
        let heads = names.heads.all().filter(|start| of_other_head || !own.contains(start));
        let bare = |start: &str| start.strip_prefix(names.prefix).unwrap_or(start).to_owned();
        let mut unneeded: Vec<String> =
            heads.chain(names.unused.iter().copied()).map(bare).collect();
        if self.head == Head::MaskedLanguage {
            // A tied decoder's copies of the table and the bias, or the bias that a decoder of its own leaves unused.
            let LanguageNames { bias, decoder, decoder_bias, .. } = names.language;
            unneeded.extend(match self.tie_word_embeddings {
                true => vec![format!("{decoder}.weight"), decoder_bias.to_owned()],
                false => vec![bias.to_owned()],
            });
        }
        unneeded
    }
}

/// A matrix of weights, or a table of embeddings.
fn table(name: String, rows: usize, columns: usize) -> ParameterSpec {
    ParameterSpec {
        name,
        shape: vec![rows, columns],
        decay: true,
        init: Init::Normal(INITIALISER_RANGE),
    }
}

fn bias_of(name: &str, outputs: usize) -> ParameterSpec {
    let (shape, init) = (vec![outputs], Init::Constant(0.0));
    ParameterSpec { name: name.to_owned(), shape, decay: false, init }
}

fn linear(name: &str, inputs: usize, outputs: usize) -> [ParameterSpec; 2] {
    let bias = bias_of(&format!("{name}.bias"), outputs);
    [table(format!("{name}.weight"), outputs, inputs), bias]
}

fn norm(name: &str, size: usize) -> [ParameterSpec; 2] {
    [("weight", 1.0), ("bias", 0.0)].map(|(part, start)| ParameterSpec {
        name: format!("{name}.{part}"),
        shape: vec![size],
        decay: false,
        init: Init::Constant(start),
    })
}

/// The tables of embeddings that there are.
fn tables(encoder: &Encoder) -> Vec<ParameterSpec> {
    let (names, width) = (encoder.family.names(), encoder.embedding_width());
    let mut specs = vec![table(names.words.to_owned(), encoder.vocab_size, width)];
    if encoder.family.has_positions() {
        specs.push(table(names.positions.to_owned(), encoder.max_position_embeddings, width));
    }
    if encoder.type_vocab_size > 0 {
        specs.push(table(names.types.to_owned(), encoder.type_vocab_size, width));
    }
    specs
}

/// What comes before the first layer.
fn embedding_parameters(encoder: &Encoder) -> Vec<ParameterSpec> {
    let mut specs = tables(encoder);
    specs.extend(norm(encoder.family.names().norm, encoder.embedding_width()));
    if let Some(projection) = encoder.family.projection(encoder) {
        specs.extend(linear(projection, encoder.embedding_width(), encoder.hidden_size));
    }
    specs
}

/// A layer with its norms behind the sums, whose parameters' names begin with `prefix`.
fn layer_parameters(encoder: &Encoder, prefix: &str) -> Vec<ParameterSpec> {
    let (hidden, wide) = (encoder.hidden_size, encoder.intermediate_size);
    let names = &encoder.family.names().layer;
    let name = |part: &str| format!("{prefix}{part}");
    let mut specs = Vec::new();
    for part in [names.query, names.key, names.value, names.attended] {
        specs.extend(linear(&name(part), hidden, hidden));
    }
    specs.extend(norm(&name(names.attention_norm), hidden));
    specs.extend(linear(&name(names.widen), hidden, wide));
    specs.extend(linear(&name(names.narrow), wide, hidden));
    specs.extend(norm(&name(names.output_norm), hidden));
    specs
}

/// The head: linear layers as BERT has them.
fn head_parameters(encoder: &Encoder) -> Vec<ParameterSpec> {
    let (hidden, names) = (encoder.hidden_size, encoder.family.names());
    match encoder.head {
        Head::Classes(classes) => {
            let dense = linear(names.classes.dense, hidden, hidden);
            dense.into_iter().chain(linear(names.classes.classifier, hidden, classes)).collect()
        }
        Head::Tokens(classes) => linear(TAGGER, hidden, classes).to_vec(),
        Head::Span => linear(names.span, hidden, 2).to_vec(),
        Head::MaskedLanguage => {
            let width = encoder.embedding_width();
            let mut specs = linear(names.language.dense, hidden, width).to_vec();
            specs.extend(norm(names.language.norm, width));
            specs.extend(decoder_parameters(encoder));
            specs
        }
        Head::Embedding => encoder.sentence.parameters(),
    }
}

/// What the decoder of a masked language model has of its own.
fn decoder_parameters(encoder: &Encoder) -> Vec<ParameterSpec> {
    let [weight, bias] = decoder_names(encoder);
    let own = (!encoder.tie_word_embeddings)
        .then(|| table(weight, encoder.vocab_size, encoder.embedding_width()));
    own.into_iter().chain([bias_of(&bias, encoder.vocab_size)]).collect()
}

impl Model for Encoder {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = self.family.trunk(self);
        specs.extend(self.family.head(self));
        specs
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        let Inputs::Tokens(inputs) = inputs else {
            let needed = "a model of texts reads tokens".to_owned();
            return Err(Error::Shape { op: "encoder", found: format!("{inputs:?}"), needed });
        };
        let mut pass = Pass { model: self, graph, store, training, dropped: 0 };
        let trunk = self.family.encode(&mut pass, inputs)?;
        let last = trunk.states[self.num_hidden_layers];
        let answer = pass.answer(last, inputs)?;
        Ok(Outputs { answer, states: trunk.states, attention: trunk.attention })
    }

    fn summary(&self) -> String {
        format!(
            "{} of {}, {}, hidden_size {}, intermediate_size {}, {}",
            self.family.names().model_type,
            counted(self.num_hidden_layers, "layer"),
            counted(self.num_attention_heads, "head"),
            self.hidden_size,
            self.intermediate_size,
            counted(self.vocab_size, "token")
        )
    }

    fn output(&self) -> Output {
        match self.head {
            Head::Classes(classes) => Output::Classes(classes),
            Head::Tokens(classes) => Output::Tokens(classes),
            Head::Span => Output::Span,
            Head::MaskedLanguage => Output::Vocabulary(self.vocab_size),
            Head::Embedding => Output::Embedding(self.sentence_width()),
        }
    }

    fn layers(&self) -> Option<LayerShape> {
        Some(LayerShape {
            count: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            heads: self.num_attention_heads,
        })
    }

    fn is_output(&self, name: &str) -> bool {
        let layer = match self.head {
            Head::Classes(_) => self.family.names().classes.classifier,
            Head::Tokens(_) => TAGGER,
            Head::Span => self.family.names().span,
            Head::MaskedLanguage | Head::Embedding => return false,
        };
        name.strip_prefix(layer).is_some_and(|part| part.starts_with('.'))
    }

    fn naming(&self, start: bool) -> Naming {
        let names = self.family.names();
        Naming {
            prefix: names.prefix,
            unneeded: self.unneeded(start),
            fresh: if start { names.heads.of(self.head) } else { &[] },
        }
    }

    fn to_json(&self, config: &ModelConfig) -> serde_json::Value {
        file::to_json(self, config)
    }
}
