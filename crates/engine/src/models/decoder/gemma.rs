//! The text part of Gemma 3 (Gemma Team 2025): norms multiply by one more than their weight and stand behind attention and the
//! feed-forward network too; tokens' rows are multiplied by √hidden_size; layers that see a window turn by angles of their own.

use serde_json::{Map, Value, json};

use super::family::{Family, Names};
use super::file::{flag, gate, rate};
use super::{Biases, Decoder, FeedForward, Positions, Rope, folder, llama};
use crate::models::json::short;
use crate::models::model_type::ModelType;

/// Gemma 3's line in the registry.
pub const GEMMA3: ModelType =
    ModelType::new("gemma3_text", |at, json| folder::read(at, &GEMMA3_FAMILY, json));

pub(super) static GEMMA3_FAMILY: Family = Family {
    model_type: "gemma3_text",
    class: "Gemma3ForCausalLM",
    names: &NAMES,
    keys: &llama::KEYS,
    read,
    write,
};

static NAMES: Names = Names {
    feed_forward_norm: "pre_feedforward_layernorm",
    norms_behind: Some(["post_attention_layernorm", "post_feedforward_layernorm"]),
    norms_add_one: true,
    scales_words: true,
    ..llama::NAMES
};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
/// One of so many layers sees everything, where nothing else is said.
const PATTERN: u64 = 6;

fn read(json: &Value, decoder: &mut Decoder) -> Result<(), String> {
    for key in ["final_logit_softcapping", "attn_logit_softcapping"] {
        if !json[key].is_null() {
            return Err(format!("{key} is {}, and only null is supported", json[key]));
        }
    }
    if flag(json, "use_bidirectional_attention", false)? {
        return Err("use_bidirectional_attention must be false: a model that guesses next tokens sees those before".to_owned());
    }
    let attention = flag(json, "attention_bias", false)?;
    decoder.biases = Biases { queries: attention, attended: attention, feed_forward: false };
    decoder.qk_norm = true;
    decoder.feed_forward =
        FeedForward::Gated(gate(json, "hidden_activation", "gelu_pytorch_tanh")?);
    decoder.dropout.attention = rate(json, "attention_dropout", 0.0)?;
    decoder.tie_word_embeddings = flag(json, "tie_word_embeddings", true)?;
    decoder.score_scalar = match &json["query_pre_attn_scalar"] {
        Value::Null => None,
        value => {
            let scalar = value.as_f64().filter(|scalar| *scalar > 0.0 && scalar.is_finite());
            let problem = || format!("query_pre_attn_scalar must be above 0, and is {value}");
            Some(scalar.ok_or_else(problem)? as f32)
        }
    };
    let slides = match llama::layer_types(json, decoder.windows.len())? {
        Some(slides) => slides,
        None => {
            let keys = ["sliding_window_pattern", "_sliding_window_pattern"];
            let pattern = keys.iter().find_map(|key| json[key].as_u64()).unwrap_or(PATTERN);
            (1..=decoder.windows.len() as u64).map(|layer| layer % pattern.max(1) != 0).collect()
        }
    };
    if slides.contains(&true) {
        let window =
            llama::window(json)?.ok_or("it has no sliding_window, and layers that see one")?;
        decoder.windows = slides.iter().map(|slides| slides.then_some(window)).collect();
    }
    let (full, near) = angles(json);
    decoder.positions = Positions::Rotary(Rope::read(&full, decoder.max_position_embeddings)?);
    decoder.near_rope = Some(Rope::read(&near, decoder.max_position_embeddings).map_err(|problem| {
        format!("of layers that see a window (rope_local_base_freq, or rope_parameters.{SLIDING}): {problem}")
    })?);
    Ok(())
}

/// What says how far positions turn: of layers that see everything, and of those that see a window. Newer configurations have
/// a table for each.
fn angles(json: &Value) -> (Value, Value) {
    let tables = &json["rope_parameters"];
    if tables[FULL].is_object() {
        let of = |kind: &str| json!({ "rope_parameters": tables[kind] });
        return (of(FULL), of(SLIDING));
    }
    let near = json!({ "rope_theta": json["rope_local_base_freq"] });
    (json.clone(), near)
}

fn write(decoder: &Decoder) -> Map<String, Value> {
    let mut keys = llama::write(decoder);
    if let Some(near) = &decoder.near_rope {
        let mut near = near.write();
        let full = keys.remove("rope_parameters");
        let tables = json!({ FULL: full, SLIDING: near.remove("rope_parameters") });
        keys.insert("rope_parameters".to_owned(), tables);
        keys.insert("rope_local_base_freq".to_owned(), json!(near["rope_theta"]));
    }
    let scalar = decoder.score_scalar.unwrap_or(decoder.head_dim as f32);
    keys.insert("query_pre_attn_scalar".to_owned(), short(scalar));
    keys.insert("layer_types".to_owned(), llama::kinds_of_layers(decoder));
    keys
}
