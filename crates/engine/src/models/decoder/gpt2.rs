//! GPT-2 (Radford et al. 2019) and DistilGPT2: norms that subtract the mean, a table of positions, weights that lie
//! [inputs, outputs].

use serde_json::{Map, Value};

use super::family::{Family, Keys, Names, Queries};
use super::file::{activation, flag, rate};
use super::{Biases, Decoder, FeedForward, Positions, folder};
use crate::models::model_type::ModelType;

/// GPT-2's line in the registry.
pub const TYPE: ModelType = ModelType::new("gpt2", |at, json| folder::read(at, &GPT2, json));

pub(super) static GPT2: Family = Family {
    model_type: "gpt2",
    class: "GPT2LMHeadModel",
    names: &NAMES,
    keys: &Keys {
        hidden_size: "n_embd",
        layers: "n_layer",
        heads: "n_head",
        wide: "n_inner",
        positions: "n_positions",
        eps: "layer_norm_epsilon",
    },
    read,
    write: |_| Map::new(),
};

static NAMES: Names = Names {
    prefix: "transformer.",
    words: "transformer.wte.weight",
    positions: "transformer.wpe.weight",
    stack: "transformer.h.",
    attention_norm: "ln_1",
    queries: Queries::Joined("attn.c_attn"),
    query_norm: "",
    key_norm: "",
    attended: "attn.c_proj",
    feed_forward_norm: "ln_2",
    norms_behind: None,
    gate: "",
    widen: "mlp.c_fc",
    narrow: "mlp.c_proj",
    last_norm: "transformer.ln_f",
    head: "lm_head.weight",
    transposed: true,
    norm_bias: true,
    norms_add_one: false,
    scales_words: false,
    unused: &[".attn.bias", ".attn.masked_bias"],
};

fn read(json: &Value, decoder: &mut Decoder) -> Result<(), String> {
    for (key, needed) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("reorder_and_upcast_attn", false),
        ("add_cross_attention", false),
    ] {
        if flag(json, key, needed)? != needed {
            return Err(format!("{key} must be {needed}: the other way is not supported"));
        }
    }
    decoder.feed_forward = FeedForward::Plain(activation(json, "activation_function", "gelu_new")?);
    decoder.positions = Positions::Learnt;
    decoder.biases = Biases { queries: true, attended: true, feed_forward: true };
    decoder.dropout.embedding = rate(json, "embd_pdrop", 0.1)?;
    decoder.dropout.attention = rate(json, "attn_pdrop", 0.1)?;
    decoder.dropout.residual = rate(json, "resid_pdrop", 0.1)?;
    Ok(())
}
