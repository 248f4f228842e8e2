//! Transformer decoders: models of language that guess each next token, each family in a file of its own.
//!
//! Parameters have the names and shapes that Hugging Face transformers gives them.

pub(super) mod cut;
mod family;
mod file;
pub(super) mod folder;
mod forward;
pub mod gemma;
pub mod gpt2;
pub mod llama;
pub mod qwen;
mod ranking;
mod rope;
mod step;
pub(super) mod vocabulary;

use std::sync::Arc;

use distil_gpu_kernels::glu::Gate;
use serde_json::Value;

use super::inputs::{Attends, Inputs, Pooling, TokenInput, TokenTensors};
use super::weights::Naming;
use super::{LayerShape, Model, ModelConfig, Output, Outputs};
use crate::error::Error;
use crate::graph::ops::Decoder as Vocabulary;
use crate::graph::{Graph, TensorId};
use crate::nn::Activation;
use crate::store::{Init, ParameterSpec};
use crate::words::counted;

pub use family::Family;
use family::{Names, Queries};
pub use ranking::Ranking;
pub use rope::{Rope, RopeScaling};
pub use step::{MOST_CHOSEN, Room, names as step_names};

/// A stack of causal attention and feed-forward layers, their norms in front, and a head that guesses the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder {
    /// Whose names and keys it has.
    pub family: &'static Family,
    /// Tokens there are.
    pub vocab_size: usize,
    /// Width of a token's hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Heads of keys and values, each of which serves as many neighbours of those.
    pub num_key_value_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Width within a feed-forward layer.
    pub intermediate_size: usize,
    /// Most tokens that it was made for.
    pub max_position_embeddings: usize,
    /// Added to variances or mean squares.
    pub norm_eps: f32,
    /// How it knows where tokens stand.
    pub positions: Positions,
    /// The angles of layers that see a window, where these have other ones.
    pub near_rope: Option<Rope>,
    /// Scores are divided by the root of this; of `head_dim` where there is none.
    pub score_scalar: Option<f32>,
    /// Within a feed-forward layer.
    pub feed_forward: FeedForward,
    /// Which of its linear layers have a bias.
    pub biases: Biases,
    /// Whether queries and keys go through a norm, head by head, before they turn.
    pub qk_norm: bool,
    /// For each layer, the most tokens that it sees, the one at hand included; all before it where there is none.
    pub windows: Vec<Option<usize>>,
    /// Whether the head has the table of words as its weight.
    pub tie_word_embeddings: bool,
    /// Probabilities of dropping something in training.
    pub dropout: Dropout,
    /// What its `config.json` says, less what other fields do.
    pub details: Carried,
    /// Its `generation_config.json`, if it came with one.
    pub generation: Option<Carried>,
}

/// JSON that goes along with a model and is no part of what it computes: all are equal.
#[derive(Clone, Debug)]
pub struct Carried(pub Arc<Value>);

impl PartialEq for Carried {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How a decoder knows where tokens stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Queries and keys turn with them.
    Rotary(Rope),
    /// A table of them is added.
    Learnt,
}

/// What a decoder's feed-forward layers compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// down(act(gate(x)) · up(x))
    Gated(Gate),
    /// down(act(up(x)))
    Plain(Activation),
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Those of queries, keys and values.
    pub queries: bool,
    /// The one behind attention.
    pub attended: bool,
    /// Those of the feed-forward network.
    pub feed_forward: bool,
}

/// Probabilities of dropping an element in training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// Of an embedding.
    pub embedding: f32,
    /// Of attention's weights.
    pub attention: f32,
    /// Of what attention and the feed-forward network add.
    pub residual: f32,
}

/// Spread of new weights.
const INITIALISER_RANGE: f32 = 0.02;
/// Tokens that are read at once unless a recipe says it.
pub const USUAL_LENGTH: usize = 512;

impl Decoder {
    fn names(&self) -> &'static Names {
        self.family.names
    }

    /// Whether a parameter has a row for each token.
    fn is_of_tokens(&self, name: &str) -> bool {
        name == self.names().words || name == self.names().head
    }

    /// Columns of all heads of queries.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Columns of all heads of keys.
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// What it reads of a text, except how that becomes tokens.
    pub fn input(&self) -> TokenInput {
        let windows = || self.windows.iter().copied();
        TokenInput {
            tokenizer: None,
            vocab_size: self.vocab_size,
            max_length: self.max_position_embeddings,
            type_vocab_size: 0,
            first_position: matches!(self.positions, Positions::Learnt).then_some(0),
            pooling: Pooling::Next,
            attends: Attends::Before {
                whole: windows().any(|window| window.is_none()),
                window: windows().flatten().next(),
            },
        }
    }

    /// What the names of a layer's parameters begin with.
    fn layer(&self, layer: usize) -> String {
        format!("{}{layer}.", self.names().stack)
    }

    /// The name of the head's weight.
    fn head(&self) -> &'static str {
        if self.tie_word_embeddings { self.names().words } else { self.names().head }
    }

    /// A matrix from so many numbers to so many, as the family's files have it, and its bias.
    fn linear(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> impl Iterator<Item = ParameterSpec> + use<> {
        let shape =
            if self.names().transposed { vec![inputs, outputs] } else { vec![outputs, inputs] };
        let weight = matrix(format!("{name}.weight"), shape);
        let bias = bias.then(|| vector(format!("{name}.bias"), outputs, 0.0));
        [weight].into_iter().chain(bias)
    }

    fn norm(&self, name: &str, size: usize) -> impl Iterator<Item = ParameterSpec> + use<> {
        let start = if self.names().norms_add_one { 0.0 } else { 1.0 };
        let weight = vector(format!("{name}.weight"), size, start);
        let bias = self.names().norm_bias.then(|| vector(format!("{name}.bias"), size, 0.0));
        [weight].into_iter().chain(bias)
    }

    fn layer_parameters(&self, layer: usize) -> Vec<ParameterSpec> {
        let (names, prefix) = (self.names(), self.layer(layer));
        let name = |part: &str| format!("{prefix}{part}");
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let [queries, keys] = [self.query_width(), self.key_width()];
        let Biases { queries: biased, attended, feed_forward } = self.biases;
        let mut specs: Vec<_> = self.norm(&name(names.attention_norm), hidden).collect();
        match names.queries {
            Queries::Apart { query, key, value } => {
                for (part, width) in [(query, queries), (key, keys), (value, keys)] {
                    specs.extend(self.linear(&name(part), hidden, width, biased));
                }
            }
            Queries::Joined(part) => {
                specs.extend(self.linear(&name(part), hidden, queries + 2 * keys, biased));
            }
        }
        if self.qk_norm {
            specs.extend(self.norm(&name(names.query_norm), self.head_dim));
            specs.extend(self.norm(&name(names.key_norm), self.head_dim));
        }
        specs.extend(self.linear(&name(names.attended), queries, hidden, attended));
        let behind = names.norms_behind.into_iter().flatten();
        for norm in behind.chain([names.feed_forward_norm]) {
            specs.extend(self.norm(&name(norm), hidden));
        }
        if let FeedForward::Gated(_) = self.feed_forward {
            specs.extend(self.linear(&name(names.gate), hidden, wide, feed_forward));
        }
        specs.extend(self.linear(&name(names.widen), hidden, wide, feed_forward));
        specs.extend(self.linear(&name(names.narrow), wide, hidden, feed_forward));
        specs
    }
}

fn tokens_of(inputs: &Inputs) -> Result<&TokenTensors, Error> {
    match inputs {
        Inputs::Tokens(inputs) => Ok(inputs),
        _ => {
            let needed = "a model of texts reads tokens".to_owned();
            Err(Error::Shape { op: "decoder", found: format!("{inputs:?}"), needed })
        }
    }
}

fn matrix(name: String, shape: Vec<usize>) -> ParameterSpec {
    ParameterSpec { name, shape, decay: true, init: Init::Normal(INITIALISER_RANGE) }
}

fn vector(name: String, size: usize, start: f32) -> ParameterSpec {
    ParameterSpec { name, shape: vec![size], decay: false, init: Init::Constant(start) }
}

impl Decoder {
    /// As [`Model::forward`], not in training, where what each layer adds is multiplied by a number [1] of its own.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub(crate) fn forward_with_gates(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        gates: Vec<TensorId>,
    ) -> Result<Outputs, Error> {
        Ok(forward::forward(self, graph, store, tokens_of(inputs)?, false, gates)?.0)
    }

    /// As [`Model::forward`], not in training: what the heads of each layer attended to [rows, length, query width], and its
    /// units [rows, length, intermediate_size].
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub(crate) fn forward_to_parts(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
    ) -> Result<Vec<TensorId>, Error> {
        Ok(forward::forward(self, graph, store, tokens_of(inputs)?, false, Vec::new())?.1)
    }
}

impl Model for Decoder {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (names, hidden) = (self.names(), self.hidden_size);
        let mut specs = vec![matrix(names.words.to_owned(), vec![self.vocab_size, hidden])];
        if self.positions == Positions::Learnt {
            let shape = vec![self.max_position_embeddings, hidden];
            specs.push(matrix(names.positions.to_owned(), shape));
        }
        specs.extend((0..self.num_hidden_layers).flat_map(|layer| self.layer_parameters(layer)));
        specs.extend(self.norm(names.last_norm, hidden));
        if !self.tie_word_embeddings {
            specs.push(matrix(names.head.to_owned(), vec![self.vocab_size, hidden]));
        }
        specs
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        Ok(forward::forward(self, graph, store, tokens_of(inputs)?, training, Vec::new())?.0)
    }

    fn summary(&self) -> String {
        let shared = match self.num_key_value_heads {
            heads if heads == self.num_attention_heads => String::new(),
            heads => format!(" ({heads} of keys)"),
        };
        format!(
            "{} of {}, {}{shared}, hidden_size {}, intermediate_size {}, {}",
            self.family.model_type,
            counted(self.num_hidden_layers, "layer"),
            counted(self.num_attention_heads, "head"),
            self.hidden_size,
            self.intermediate_size,
            counted(self.vocab_size, "token")
        )
    }

    fn output(&self) -> Output {
        Output::Vocabulary(self.vocab_size)
    }

    fn layers(&self) -> Option<LayerShape> {
        Some(LayerShape {
            count: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            heads: self.num_attention_heads,
        })
    }

    fn head_on(
        &self,
        graph: &mut Graph,
        store: usize,
        hidden: TensorId,
    ) -> Result<Option<Vocabulary>, Error> {
        forward::head(self, graph, store, hidden).map(Some)
    }

    fn is_output(&self, _: &str) -> bool {
        false
    }

    fn naming(&self, _: bool) -> Naming {
        let names = self.names();
        let tied = self.tie_word_embeddings.then(|| names.head.to_owned());
        Naming {
            prefix: names.prefix,
            unneeded: tied.into_iter().collect(),
            unneeded_ends: names.unused,
            fresh: &[],
        }
    }

    fn to_json(&self, config: &ModelConfig) -> Value {
        file::to_json(self, config)
    }
}
