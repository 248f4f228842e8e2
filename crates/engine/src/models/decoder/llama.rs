//! Llama (Touvron et al. 2023), and what is built like it: Mistral (Jiang et al. 2023), whose layers may see so many tokens
//! alone. SmolLM2 and TinyLlama are Llamas by name.

use serde_json::{Map, Value, json};

use super::family::{Family, Keys, Names, Queries};
use super::file::{flag, gate};
use super::{Biases, Decoder, FeedForward, Positions, Rope, folder};
use crate::models::model_type::ModelType;

/// Llama's line in the registry.
pub const TYPE: ModelType = ModelType::new("llama", |at, json| folder::read(at, &LLAMA, json));
/// Mistral's line in the registry.
pub const MISTRAL: ModelType =
    ModelType::new("mistral", |at, json| folder::read(at, &MISTRAL_FAMILY, json));

pub(super) static LLAMA: Family = Family {
    model_type: "llama",
    class: "LlamaForCausalLM",
    names: &NAMES,
    keys: &KEYS,
    read: |json, decoder| {
        let attention = flag(json, "attention_bias", false)?;
        decoder.biases = Biases {
            queries: attention,
            attended: attention,
            feed_forward: flag(json, "mlp_bias", false)?,
        };
        read(json, decoder)
    },
    write,
};

pub(super) static MISTRAL_FAMILY: Family = Family {
    model_type: "mistral",
    class: "MistralForCausalLM",
    names: &NAMES,
    keys: &KEYS,
    read: |json, decoder| {
        if let Some(window) = window(json)? {
            decoder.windows.fill(Some(window));
        }
        read(json, decoder)
    },
    write,
};

pub(super) const NAMES: Names = Names {
    prefix: "model.",
    words: "model.embed_tokens.weight",
    positions: "",
    stack: "model.layers.",
    attention_norm: "input_layernorm",
    queries: Queries::Apart {
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
    },
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    attended: "self_attn.o_proj",
    feed_forward_norm: "post_attention_layernorm",
    norms_behind: None,
    gate: "mlp.gate_proj",
    widen: "mlp.up_proj",
    narrow: "mlp.down_proj",
    last_norm: "model.norm",
    head: "lm_head.weight",
    transposed: false,
    norm_bias: false,
    norms_add_one: false,
    scales_words: false,
    unused: &["rotary_emb.inv_freq"],
};

pub(super) const KEYS: Keys = Keys {
    hidden_size: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    wide: "intermediate_size",
    positions: "max_position_embeddings",
    eps: "rms_norm_eps",
};

/// What all models built like Llama say: gates and angles.
pub(super) fn read(json: &Value, decoder: &mut Decoder) -> Result<(), String> {
    decoder.feed_forward = FeedForward::Gated(gate(json, "hidden_act", "silu")?);
    decoder.positions = Positions::Rotary(Rope::read(json, decoder.max_position_embeddings)?);
    decoder.dropout.attention = super::file::rate(json, "attention_dropout", 0.0)?;
    Ok(())
}

/// The most tokens that a layer sees, where that is said.
pub(super) fn window(json: &Value) -> Result<Option<usize>, String> {
    let value = &json["sliding_window"];
    match (value.is_null(), value.as_u64()) {
        (true, _) => Ok(None),
        (false, Some(window)) if window > 0 => Ok(usize::try_from(window).ok()),
        _ => Err(format!("a sliding_window of {value} is not possible: it is a number above 0")),
    }
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Which of so many layers see a window alone, where `layer_types` says that.
pub(super) fn layer_types(json: &Value, layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(kinds) = json["layer_types"].as_array() else { return Ok(None) };
    let slides = |kind: &Value| match kind.as_str() {
        Some(FULL) => Ok(false),
        Some(SLIDING) => Ok(true),
        _ => Err(format!("layer_types has {kind}, which is neither {FULL} nor {SLIDING}")),
    };
    if kinds.len() != layers {
        let kinds = kinds.len();
        return Err(format!("layer_types names {kinds} layers, and num_hidden_layers is {layers}"));
    }
    kinds.iter().map(slides).collect::<Result<_, _>>().map(Some)
}

/// `layer_types` of a decoder.
pub(super) fn kinds_of_layers(decoder: &Decoder) -> Value {
    let kind = |window: &Option<usize>| if window.is_some() { SLIDING } else { FULL };
    decoder.windows.iter().map(kind).collect()
}

pub(super) fn write(decoder: &Decoder) -> Map<String, Value> {
    let mut keys = match &decoder.positions {
        Positions::Rotary(rope) => rope.write(),
        Positions::Learnt => Map::new(),
    };
    keys.insert("num_key_value_heads".to_owned(), json!(decoder.num_key_value_heads));
    keys.insert("head_dim".to_owned(), json!(decoder.head_dim));
    keys
}
