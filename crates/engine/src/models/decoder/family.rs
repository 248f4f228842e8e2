//! What makes a family of decoders: its names, and how its `config.json` is read.

use serde_json::{Map, Value};

use super::Decoder;

/// A family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` of its configurations.
    pub model_type: &'static str,
    /// What transformers calls its model.
    pub class: &'static str,
    /// Names of its parameters.
    pub(super) names: &'static Names,
    /// Names of the keys for sizes in its configurations.
    pub(super) keys: &'static Keys,
    /// Reads what its configurations say beside sizes.
    pub(super) read: fn(&Value, &mut Decoder) -> Result<(), String>,
    /// What its configurations say of a decoder beside sizes and what they said when they were read.
    pub(super) write: fn(&Decoder) -> Map<String, Value>,
}

/// The same family.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

/// Names of a family's parameters, as Hugging Face transformers has them.
#[derive(Debug)]
pub(super) struct Names {
    /// What the names of parameters begin with, or not.
    pub prefix: &'static str,
    /// The table of words.
    pub words: &'static str,
    /// The table of positions; empty where there is none.
    pub positions: &'static str,
    /// What the names of a layer's parameters begin with, in front of its number.
    pub stack: &'static str,
    /// The norm in front of attention.
    pub attention_norm: &'static str,
    /// The projections of queries, keys and values.
    pub queries: Queries,
    /// The norm of a head of queries.
    pub query_norm: &'static str,
    /// The norm of a head of keys.
    pub key_norm: &'static str,
    /// The projection of what was attended to.
    pub attended: &'static str,
    /// The norm in front of the feed-forward network.
    pub feed_forward_norm: &'static str,
    /// Norms of what attention and the feed-forward network add, where there are such.
    pub norms_behind: Option<[&'static str; 2]>,
    /// The gates' linear layer.
    pub gate: &'static str,
    /// The first linear layer of the feed-forward network.
    pub widen: &'static str,
    /// Its second.
    pub narrow: &'static str,
    /// The norm behind all layers.
    pub last_norm: &'static str,
    /// The weight of a head of its own.
    pub head: &'static str,
    /// Whether weights lie [inputs, outputs].
    pub transposed: bool,
    /// Whether norms have a bias, and subtract the mean.
    pub norm_bias: bool,
    /// Whether norms multiply by one more than their weight.
    pub norms_add_one: bool,
    /// Whether rows of the table of words are multiplied by √hidden_size.
    pub scales_words: bool,
    /// Ends of the names of tensors that files have and no model needs.
    pub unused: &'static [&'static str],
}

/// Names of the projections of queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Queries {
    /// Three linear layers.
    Apart {
        /// Of queries.
        query: &'static str,
        /// Of keys.
        key: &'static str,
        /// Of values.
        value: &'static str,
    },
    /// One, whose results are queries, keys and values side by side.
    Joined(&'static str),
}

/// Names of the keys for sizes.
#[derive(Debug)]
pub(super) struct Keys {
    pub hidden_size: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub wide: &'static str,
    pub positions: &'static str,
    pub eps: &'static str,
}
