//! What an encoder is, its sizes, and what makes its family: its names, its keys in `config.json`, and where its forward
//! pass differs from BERT's.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::head::Head;
use super::names::Names;
use super::parameters::{bias_of, linear, norm, table};
use super::pass::{Pass, TAGGER, Trunk, decoder_names};
use super::sentence::SentenceModules;
use crate::error::Error;
use crate::graph::TensorId;
use crate::models::json::{activation_name, short};
use crate::models::{Pooling, TokenTensors};
use crate::nn::Activation;
use crate::store::ParameterSpec;

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

impl Encoder {
    /// Width of a token's embedding.
    pub fn embedding_width(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    /// The tables of embeddings that there are.
    pub(super) fn tables(&self) -> Vec<ParameterSpec> {
        let (names, width) = (self.family.names(), self.embedding_width());
        let mut specs = vec![table(names.words.to_owned(), self.vocab_size, width)];
        if self.family.has_positions() {
            specs.push(table(names.positions.to_owned(), self.max_position_embeddings, width));
        }
        if self.type_vocab_size > 0 {
            specs.push(table(names.types.to_owned(), self.type_vocab_size, width));
        }
        specs
    }

    /// What comes before the first layer.
    pub(super) fn embedding_parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = self.tables();
        specs.extend(norm(self.family.names().norm, self.embedding_width()));
        if let Some(projection) = self.family.projection(self) {
            specs.extend(linear(projection, self.embedding_width(), self.hidden_size));
        }
        specs
    }

    /// A layer with its norms behind the sums, whose parameters' names begin with `prefix`.
    pub(super) fn layer_parameters(&self, prefix: &str) -> Vec<ParameterSpec> {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let names = &self.family.names().layer;
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
    pub(super) fn head_parameters(&self) -> Vec<ParameterSpec> {
        let (hidden, names) = (self.hidden_size, self.family.names());
        match self.head {
            Head::Classes(classes) => {
                let dense = linear(names.classes.dense, hidden, hidden);
                dense.into_iter().chain(linear(names.classes.classifier, hidden, classes)).collect()
            }
            Head::Tokens(classes) => linear(TAGGER, hidden, classes).to_vec(),
            Head::Span => linear(names.span, hidden, 2).to_vec(),
            Head::MaskedLanguage => {
                let width = self.embedding_width();
                let mut specs = linear(names.language.dense, hidden, width).to_vec();
                specs.extend(norm(names.language.norm, width));
                specs.extend(self.decoder_parameters());
                specs
            }
            Head::Embedding => self.sentence.parameters(),
        }
    }

    /// What the decoder of a masked language model has of its own.
    pub(super) fn decoder_parameters(&self) -> Vec<ParameterSpec> {
        let [weight, bias] = decoder_names(self);
        let own = (!self.tie_word_embeddings)
            .then(|| table(weight, self.vocab_size, self.embedding_width()));
        own.into_iter().chain([bias_of(&bias, self.vocab_size)]).collect()
    }
}

/// A family of encoders. What it does not say is as BERT has it.
pub trait Family: Debug + Send + Sync {
    /// Its names.
    fn names(&self) -> &'static Names;

    /// Number of the padding token where `config.json` has none.
    fn padding(&self) -> usize {
        0
    }

    /// Whether positions count from behind the number of the padding token.
    fn counts_from_padding(&self) -> bool {
        false
    }

    /// Whether it has a table of positions.
    fn has_positions(&self) -> bool {
        true
    }

    /// Reads what its `config.json` says of an encoder beside the keys that all families share.
    ///
    /// # Errors
    /// A sentence that names the key.
    fn read(&self, json: &Value, encoder: &mut Encoder) -> Result<(), String> {
        let _ = (json, encoder);
        Ok(())
    }

    /// Keys of `config.json` that the family has beside those of [`Family::sizes`].
    fn details(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The sizes of an encoder under the family's keys of `config.json`.
    fn sizes(&self, encoder: &Encoder) -> Value {
        json!({
            "hidden_act": activation_name(encoder.activation),
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.num_hidden_layers,
            "num_attention_heads": encoder.num_attention_heads,
            "intermediate_size": encoder.intermediate_size,
            "type_vocab_size": encoder.type_vocab_size,
            "layer_norm_eps": short(encoder.layer_norm_eps),
            "hidden_dropout_prob": short(encoder.hidden_dropout),
            "attention_probs_dropout_prob": short(encoder.attention_dropout),
            "classifier_dropout": short(encoder.classifier_dropout),
        })
    }

    /// Probability of dropping an element behind the feed-forward network in training.
    fn output_dropout(&self, encoder: &Encoder) -> f32 {
        encoder.hidden_dropout
    }

    /// The head of a model that transformers calls by the family's class and this suffix.
    fn head_of(&self, suffix: &str, classes: usize) -> Head {
        Head::of_suffix(suffix, classes)
    }

    /// Whether its configurations say how wide embeddings are.
    fn has_embedding_size(&self) -> bool {
        false
    }

    /// What of a text a classifier works on.
    fn classifier_pooling(&self) -> Pooling {
        Pooling::First
    }

    /// The linear layer between embeddings and hidden states, without `.weight` and `.bias`; nothing where there is none.
    fn projection(&self, encoder: &Encoder) -> Option<&'static str> {
        let _ = encoder;
        None
    }

    /// Its own part of an encoder that has these of its layers.
    fn with_layers(&self, taken: &[usize]) -> Option<SharedFamily> {
        let _ = taken;
        None
    }

    /// The rows that a narrower encoder takes of a parameter; nothing where these are the first ones.
    fn rows_of(&self, name: &str, ours: &Encoder, theirs: &Encoder) -> Option<Vec<u32>> {
        let _ = (name, ours, theirs);
        None
    }

    /// What the names of the parameters of a layer begin with.
    fn layer(&self, layer: usize) -> String {
        format!("{}{layer}.", self.names().stack)
    }

    /// The name of a parameter with its layer's number changed, if it is a layer's.
    fn of_layer(&self, name: &str, change: &dyn Fn(usize) -> usize) -> String {
        let stack = self.names().stack;
        let numbered = name.strip_prefix(stack).and_then(|rest| rest.split_once('.'));
        match numbered.and_then(|(layer, part)| Some((layer.parse().ok()?, part))) {
            Some((layer, part)) if !stack.is_empty() => {
                format!("{}{part}", self.layer(change(layer)))
            }
            _ => name.to_owned(),
        }
    }

    /// Parameters of everything below the head, in order.
    fn trunk(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let mut specs = encoder.embedding_parameters();
        for layer in 0..encoder.num_hidden_layers {
            specs.extend(encoder.layer_parameters(&self.layer(layer)));
        }
        specs
    }

    /// Parameters of the head, in order.
    fn head(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        encoder.head_parameters()
    }

    /// Hidden states before the first layer and behind each.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    fn encode(&self, pass: &mut Pass<'_>, inputs: &TokenTensors) -> Result<Trunk, Error> {
        pass.encode(inputs, None)
    }

    /// Logits [rows, classes] of what stands for each text [rows, hidden_size].
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    fn classify(&self, pass: &mut Pass<'_>, pooled: TensorId) -> Result<TensorId, Error> {
        pass.classify(pooled)
    }

    /// What the last linear layer of a tagger or of an extractive reader takes of hidden states, both
    /// [rows, hidden_size].
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    fn before_linear(&self, pass: &mut Pass<'_>, x: TensorId) -> Result<TensorId, Error> {
        match pass.model.head {
            Head::Tokens(_) => pass.dropout(x, pass.model.classifier_dropout),
            _ => Ok(x),
        }
    }

    /// The activation within the transform of a masked language model.
    fn language_activation(&self, encoder: &Encoder) -> Activation {
        encoder.activation
    }

    /// The decoder's input [tokens, embedding width] of the masked tokens' hidden states [tokens, hidden_size].
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    fn transform(&self, pass: &mut Pass<'_>, chosen: TensorId) -> Result<TensorId, Error> {
        pass.transform(chosen, self.language_activation(pass.model))
    }
}

/// A family that clones of a model share.
#[derive(Clone, Debug)]
pub struct SharedFamily(Arc<dyn Family>);

impl<F: Family + 'static> From<F> for SharedFamily {
    fn from(family: F) -> Self {
        Self(Arc::new(family))
    }
}

impl Deref for SharedFamily {
    type Target = dyn Family;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The same family, with the same details.
impl PartialEq for SharedFamily {
    fn eq(&self, other: &Self) -> bool {
        self.names().model_type == other.names().model_type && self.details() == other.details()
    }
}

/// A family that `config.json` describes.
pub trait ReadFamily: Family + Sized + 'static {
    /// The family, of a configuration; what is wrong with that otherwise.
    ///
    /// # Errors
    /// A sentence that names the key.
    fn of_json(json: &Value) -> Result<Self, String>;
}
