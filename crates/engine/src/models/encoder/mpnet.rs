//! MPNet (Song et al. 2020): all layers add the same bias to their scores, which depends on how far apart tokens are.

use distil_gpu_kernels::gather::sorted_order;
use serde_json::{Map, Value};

use super::family::{
    ClassesNames, Family, HeadNames, LanguageNames, LayerNames, Names, ReadFamily,
};
use super::pass::{Pass, Trunk};
use super::{Encoder, table};
use crate::error::Error;
use crate::graph::TensorId;
use crate::models::TokenTensors;
use crate::models::registry::ModelType;
use crate::nn::Activation;
use crate::store::ParameterSpec;

/// MPNet's line in the registry.
pub const TYPE: ModelType = super::model_type::<MpNet>("mpnet");

/// BERT's layers with biased scores; positions count from behind the padding token.
#[derive(Clone, Copy, Debug)]
pub struct MpNet {
    /// Rows of the table of biases.
    pub relative_attention_num_buckets: usize,
}

/// Buckets that transformers makes of distances, whatever the table has room for.
const BUCKETS: usize = 32;
/// From this distance on all are one bucket.
const MAX_DISTANCE: f64 = 128.0;
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
    classes: ClassesNames {
        dense: "classifier.dense",
        activation: Activation::Tanh,
        classifier: "classifier.out_proj",
        drop_first: true,
    },
    language: LanguageNames {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        bias: "lm_head.bias",
        decoder: "lm_head.decoder",
        decoder_bias: "lm_head.decoder.bias",
    },
    span: "qa_outputs",
    heads: HeadNames {
        classes: &["classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["lm_head."],
    },
    unused: &["embeddings.position_ids", "pooler."],
};

/// The bucket of a key that lies so many tokens behind the query (Raffel et al. 2020): half of the buckets for each
/// direction, of which half are for single distances and the others grow with the distance's logarithm.
fn bucket(behind: i64) -> usize {
    const HALF: usize = BUCKETS / 2;
    const SINGLE: usize = HALF / 2;
    let distance = behind.unsigned_abs() as usize;
    let grown = (distance as f64 / SINGLE as f64).ln() / (MAX_DISTANCE / SINGLE as f64).ln();
    let bucket = match distance {
        0..SINGLE => distance,
        _ => (SINGLE + (grown * (HALF - SINGLE) as f64) as usize).min(HALF - 1),
    };
    if behind > 0 { HALF + bucket } else { bucket }
}

impl MpNet {
    /// The biases [1, heads, length, length] of all layers' scores.
    fn biases(&self, pass: &mut Pass<'_>, length: usize) -> Result<TensorId, Error> {
        let place = |at: usize| (at / length, at % length);
        let ids: Vec<i32> = (0..length * length)
            .map(|at| bucket(place(at).1 as i64 - place(at).0 as i64) as i32)
            .collect();
        let order = sorted_order(&ids);
        let graph = &mut *pass.graph;
        let shape = [length, length];
        let buckets = graph.constant_i32("relative position buckets", &shape, &ids)?;
        let sorted = [length * length];
        let order = graph.constant_i32("relative position buckets in order", &sorted, &order)?;
        let table = graph.named(pass.store, BIASES);
        let biases = graph.gather(table, buckets, order)?;
        let biases = graph.permute(biases, &[2, 0, 1])?;
        graph.reshape(biases, &[1, pass.model.num_attention_heads, length, length])
    }
}

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

    fn read(&self, _: &Value, encoder: &mut Encoder) -> Result<(), String> {
        if self.relative_attention_num_buckets < BUCKETS {
            return Err(format!("relative_attention_num_buckets must be at least {BUCKETS}"));
        }
        if encoder.pad_token_id != PADDING {
            return Err(format!("pad_token_id must be {PADDING}, which positions count from"));
        }
        encoder.type_vocab_size = 0;
        Ok(())
    }

    fn details(&self) -> Map<String, Value> {
        let buckets = self.relative_attention_num_buckets;
        Map::from_iter([("relative_attention_num_buckets".to_owned(), buckets.into())])
    }

    fn trunk(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let mut specs = super::embedding_parameters(encoder);
        for layer in 0..encoder.num_hidden_layers {
            specs.extend(super::layer_parameters(encoder, &self.layer(layer)));
        }
        let (buckets, heads) = (self.relative_attention_num_buckets, encoder.num_attention_heads);
        specs.push(table(BIASES.to_owned(), buckets, heads));
        specs
    }

    fn encode(&self, pass: &mut Pass<'_>, inputs: &TokenTensors) -> Result<Trunk, Error> {
        let biases = self.biases(pass, inputs.shape.length)?;
        pass.encode(inputs, Some(biases))
    }

    /// The head has this one whatever the layers have.
    fn language_activation(&self, _: &Encoder) -> Activation {
        Activation::Gelu
    }
}

impl ReadFamily for MpNet {
    fn of_json(json: &Value) -> Result<Self, String> {
        const MOST: u64 = 1 << 16;
        let buckets = json["relative_attention_num_buckets"].as_u64().unwrap_or(BUCKETS as u64);
        if buckets > MOST {
            return Err(format!("relative_attention_num_buckets of {buckets} is beyond {MOST}"));
        }
        Ok(Self { relative_attention_num_buckets: buckets as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn near_tokens_have_buckets_of_their_own() {
        let buckets: Vec<usize> = [0, -1, -7, -8, -11, -12, -127, -128, -1000].map(bucket).to_vec();
        assert_eq!(buckets, [0, 1, 7, 8, 8, 9, 15, 15, 15]);
        assert_eq!([1, 7, 8, 12, 500].map(bucket), [17, 23, 24, 25, 31]);
    }
}
