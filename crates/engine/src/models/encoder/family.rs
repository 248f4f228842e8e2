//! What makes a family of encoders: its names, its keys in `config.json`, and where its forward pass differs from
//! BERT's.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::file::{activation_name, short};
use super::pass::{Pass, Trunk};
use super::{Encoder, Head};
use crate::error::Error;
use crate::graph::TensorId;
use crate::models::{Pooling, TokenTensors};
use crate::nn::Activation;
use crate::store::ParameterSpec;

/// Names of a family's parameters and files, as Hugging Face transformers has them.
#[derive(Debug)]
pub struct Names {
    /// `model_type` of its configurations.
    pub model_type: &'static str,
    /// What transformers' names of its models begin with.
    pub class: &'static str,
    /// What transformers calls its tokenizer.
    pub tokenizer: &'static str,
    /// What the names of parameters begin with in models with a head.
    pub prefix: &'static str,
    /// The table of words.
    pub words: &'static str,
    /// The table of positions.
    pub positions: &'static str,
    /// The table of token types.
    pub types: &'static str,
    /// The norm of the embeddings, without `.weight` and `.bias`.
    pub norm: &'static str,
    /// What the names of a layer's parameters begin with, in front of its number; empty where layers have no numbers.
    pub stack: &'static str,
    /// A layer's parts.
    pub layer: LayerNames,
    /// The classifier of whole texts.
    pub classes: ClassesNames,
    /// The head of masked language models.
    pub language: LanguageNames,
    /// The linear layer for the start and the end of an answer.
    pub span: &'static str,
    /// Beginnings of the names of each head's parameters.
    pub heads: HeadNames,
    /// Beginnings of the names, without the prefix, of buffers and of heads that have no counterpart here.
    pub unused: &'static [&'static str],
}

/// Names of a layer's parts, behind its number and without `.weight` and `.bias`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNames {
    /// The queries' projection.
    pub query: &'static str,
    /// The keys' projection.
    pub key: &'static str,
    /// The values' projection.
    pub value: &'static str,
    /// The projection of what was attended to.
    pub attended: &'static str,
    /// The norm behind attention.
    pub attention_norm: &'static str,
    /// The first linear layer of the feed-forward network.
    pub widen: &'static str,
    /// Its second.
    pub narrow: &'static str,
    /// The norm behind it.
    pub output_norm: &'static str,
}

/// The two linear layers of the classifier, and what lies between.
#[derive(Clone, Copy, Debug)]
pub struct ClassesNames {
    /// The first layer.
    pub dense: &'static str,
    /// What follows it.
    pub activation: Activation,
    /// The second layer.
    pub classifier: &'static str,
    /// Whether there is dropout in front of both.
    pub drop_first: bool,
}

/// The transform in front of the decoder of a masked language model, and the decoder.
#[derive(Clone, Copy, Debug)]
pub struct LanguageNames {
    /// The transform's linear layer.
    pub dense: &'static str,
    /// Its norm.
    pub norm: &'static str,
    /// The bias of a decoder whose weight is the table of words.
    pub bias: &'static str,
    /// A decoder with a weight of its own, without `.weight`.
    pub decoder: &'static str,
    /// The bias of that.
    pub decoder_bias: &'static str,
}

/// Beginnings of the names of the parameters of heads.
#[derive(Clone, Copy, Debug)]
pub struct HeadNames {
    /// Of [`Head::Classes`].
    pub classes: &'static [&'static str],
    /// Of [`Head::Tokens`].
    pub tokens: &'static [&'static str],
    /// Of [`Head::Span`].
    pub span: &'static [&'static str],
    /// Of [`Head::MaskedLanguage`].
    pub language: &'static [&'static str],
}

impl HeadNames {
    /// Those of one head.
    pub fn of(&self, head: Head) -> &'static [&'static str] {
        match head {
            Head::Classes(_) => self.classes,
            Head::Tokens(_) => self.tokens,
            Head::Span => self.span,
            Head::MaskedLanguage => self.language,
            Head::Embedding => &[],
        }
    }

    /// Those of all heads.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.classes, self.tokens, self.span, self.language].into_iter().flatten().copied()
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
        let mut specs = super::embedding_parameters(encoder);
        for layer in 0..encoder.num_hidden_layers {
            specs.extend(super::layer_parameters(encoder, &self.layer(layer)));
        }
        specs
    }

    /// Parameters of the head, in order.
    fn head(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        super::head_parameters(encoder)
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
