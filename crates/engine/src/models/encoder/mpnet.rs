//! MPNet (Song et al. 2020): all layers add the same bias to their scores, which depends on how far apart tokens are.

use serde_json::{Map, Value};

use super::family::{Encoder, Family, ReadFamily};
use super::folder::model_type;
use super::names::{LayerNames, Names};
use super::parameters::table;
use super::pass::{Pass, Trunk};
use super::roberta::ROBERTA;
use crate::error::Error;
use crate::models::TokenTensors;
use crate::models::model_type::ModelType;
use crate::nn::{self, Activation};
use crate::store::ParameterSpec;

/// MPNet's line in the registry.
pub const TYPE: ModelType = model_type::<MpNet>("mpnet");

/// BERT's layers with biased scores; positions count from behind the padding token.
#[derive(Clone, Copy, Debug)]
pub struct MpNet;

/// Buckets of distances: transformers makes so many, whatever the configuration says.
const BUCKETS: usize = 32;
/// From this distance on all are one bucket.
const MAX_DISTANCE: usize = 128;
/// The padding token, which positions count from.
const PADDING: usize = 1;
/// The table of biases [buckets, heads].
const BIASES: &str = "mpnet.encoder.relative_attention_bias.weight";

static NAMES: Names = Names {
    model_type: "mpnet",
    class: "MPNet",
    tokenizer: "MPNetTokenizerFast",
    prefix: "mpnet.",
    words: "mpnet.embeddings.word_embeddings.weight",
    positions: "mpnet.embeddings.position_embeddings.weight",
    types: "",
    norm: "mpnet.embeddings.LayerNorm",
    stack: "mpnet.encoder.layer.",
    layer: LayerNames {
        query: "attention.attn.q",
        key: "attention.attn.k",
        value: "attention.attn.v",
        attended: "attention.attn.o",
        attention_norm: "attention.LayerNorm",
        widen: "intermediate.dense",
        narrow: "output.dense",
        output_norm: "output.LayerNorm",
    },
    ..ROBERTA
};

impl Family for MpNet {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn padding(&self) -> usize {
        PADDING
    }

    fn counts_from_padding(&self) -> bool {
        true
    }

    fn read(&self, json: &Value, encoder: &mut Encoder) -> Result<(), String> {
        let buckets = json["relative_attention_num_buckets"].as_u64();
        if buckets.is_some_and(|buckets| buckets != BUCKETS as u64) {
            return Err(format!("relative_attention_num_buckets must be {BUCKETS}"));
        }
        if encoder.pad_token_id != PADDING {
            return Err(format!("pad_token_id must be {PADDING}, which positions count from"));
        }
        encoder.type_vocab_size = 0;
        Ok(())
    }

    fn details(&self) -> Map<String, Value> {
        Map::from_iter([("relative_attention_num_buckets".to_owned(), BUCKETS.into())])
    }

    fn trunk(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let mut specs = encoder.embedding_parameters();
        for layer in 0..encoder.num_hidden_layers {
            specs.extend(encoder.layer_parameters(&self.layer(layer)));
        }
        specs.push(table(BIASES.to_owned(), BUCKETS, encoder.num_attention_heads));
        specs
    }

    fn encode(&self, pass: &mut Pass<'_>, inputs: &TokenTensors) -> Result<Trunk, Error> {
        let table = pass.graph.named(pass.store, BIASES);
        let biases = nn::relative_bias(pass.graph, table, inputs.shape.length, MAX_DISTANCE)?;
        pass.encode(inputs, Some(biases))
    }

    /// The head has this one whatever the layers have.
    fn language_activation(&self, _: &Encoder) -> Activation {
        Activation::Gelu
    }
}

impl ReadFamily for MpNet {
    fn of_json(_: &Value) -> Result<Self, String> {
        Ok(Self)
    }
}
