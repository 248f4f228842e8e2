//! `config.json` of a decoder, as Hugging Face transformers writes and reads it.

use std::sync::Arc;

use distil_gpu_kernels::attention::MAX_HEAD_DIM;
use distil_gpu_kernels::glu::Gate;
use serde_json::{Map, Value, json};

use super::family::Family;
use super::{Biases, Carried, Decoder, Dropout, FeedForward, Positions};
use crate::models::json::{self, short};
use crate::models::{ModelConfig, quantised};
use crate::nn::Activation;

/// Keys that say how numbers are stored, which a model that is written here is not.
const STORAGE: [&str; 4] = ["quantization_config", "torch_dtype", "dtype", "transformers_version"];

/// A number of a configuration.
fn size(json: &Value, key: &str) -> Result<Option<usize>, String> {
    match &json[key] {
        Value::Null => Ok(None),
        value => match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
            Some(size) => Ok(Some(size)),
            None => Err(format!("{key} must be a whole number, and is {value}")),
        },
    }
}

fn needed(json: &Value, key: &str) -> Result<usize, String> {
    size(json, key)?.ok_or_else(|| format!("it has no {key}"))
}

/// A key that is true or false.
pub(super) fn flag(json: &Value, key: &str, default: bool) -> Result<bool, String> {
    match &json[key] {
        Value::Null => Ok(default),
        value => {
            value.as_bool().ok_or_else(|| format!("{key} must be true or false, and is {value}"))
        }
    }
}

/// A probability, below 1.
pub(super) fn rate(json: &Value, key: &str, default: f32) -> Result<f32, String> {
    match &json[key] {
        Value::Null => Ok(default),
        value => match value.as_f64().filter(|rate| (0.0..1.0).contains(rate)) {
            Some(rate) => Ok(rate as f32),
            None => Err(format!("{key} must be at least 0 and below 1, and is {value}")),
        },
    }
}

fn named<T: Copy>(
    json: &Value,
    key: &str,
    default: &str,
    known: &[(&str, T)],
) -> Result<T, String> {
    let name = json[key].as_str().unwrap_or(default);
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("{key} `{name}` is none of {}", names.join(", "))
    })
}

/// The gate of a feed-forward network.
pub(super) fn gate(json: &Value, key: &str, default: &str) -> Result<Gate, String> {
    const GATES: [(&str, Gate); 6] = [
        ("silu", Gate::Silu),
        ("swish", Gate::Silu),
        ("gelu", Gate::Gelu),
        ("gelu_pytorch_tanh", Gate::GeluTanh),
        ("gelu_new", Gate::GeluTanh),
        ("relu", Gate::Relu),
    ];
    named(json, key, default, &GATES)
}

/// The activation of a feed-forward network without gates.
pub(super) fn activation(config: &Value, key: &str, default: &str) -> Result<Activation, String> {
    json::activation(key, config[key].as_str().unwrap_or(default))
}

/// The decoder that a configuration of a family describes; what is wrong with it otherwise.
pub(super) fn of_json(family: &'static Family, json: &Value) -> Result<Decoder, String> {
    if let Some(method) = quantised::foreign(json) {
        return Err(format!(
            "its weights are quantised (quantization_config: {method}), which is not supported: give the model that it \
             was made of, or its GGUF file"
        ));
    }
    let keys = family.keys;
    let layers = bounded(keys.layers, needed(json, keys.layers)?, MOST_LAYERS)?;
    let hidden_size = needed(json, keys.hidden_size)?;
    let heads = bounded(keys.heads, needed(json, keys.heads)?, MOST)?;
    let head_dim = match size(json, "head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(format!(
                "a {} of {hidden_size} cannot be shared by {heads} attention heads, and there is no head_dim",
                keys.hidden_size
            ));
        }
    };
    let eps = &json[keys.eps];
    let mut decoder = Decoder {
        family,
        vocab_size: needed(json, "vocab_size")?,
        hidden_size,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: size(json, "num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate_size: size(json, keys.wide)?.unwrap_or(4 * hidden_size.min(MOST)),
        max_position_embeddings: needed(json, keys.positions)?,
        norm_eps: eps.as_f64().unwrap_or(if family.names.norm_bias { 1e-5 } else { 1e-6 }) as f32,
        positions: Positions::Learnt,
        near_rope: None,
        score_scalar: None,
        feed_forward: FeedForward::Plain(Activation::GeluTanh),
        biases: Biases::default(),
        qk_norm: false,
        windows: vec![None; layers],
        tie_word_embeddings: flag(json, "tie_word_embeddings", family.names.norm_bias)?,
        dropout: Dropout::default(),
        details: Carried(Arc::new(details(json))),
        generation: None,
    };
    check(&decoder)?;
    (family.read)(json, &mut decoder)?;
    let window = decoder.windows.iter().flatten();
    if window.clone().any(|window| Some(window) != window_of(&decoder)) {
        return Err("its layers have windows of several sizes, which is not supported".to_owned());
    }
    Ok(decoder)
}

/// The window of those layers that have one.
fn window_of(decoder: &Decoder) -> Option<&usize> {
    decoder.windows.iter().flatten().next()
}

/// A configuration without what says how its numbers were stored.
fn details(json: &Value) -> Value {
    let mut details = json.clone();
    if let Value::Object(keys) = &mut details {
        STORAGE.iter().for_each(|key| drop(keys.remove(*key)));
    }
    details
}

const MOST: usize = 1 << 24;
const MOST_LAYERS: usize = 4096;

fn bounded(key: &str, size: usize, most: usize) -> Result<usize, String> {
    match (1..=most).contains(&size) {
        true => Ok(size),
        false => Err(format!("a {key} of {size} is not possible (1 to {most} are)")),
    }
}

/// Sizes that no file may make us believe.
fn check(decoder: &Decoder) -> Result<(), String> {
    const MOST_PARAMETERS: u128 = 1 << 38;
    let keys = decoder.family.keys;
    let sizes = [
        ("vocab_size", decoder.vocab_size),
        (keys.hidden_size, decoder.hidden_size),
        ("num_key_value_heads", decoder.num_key_value_heads),
        (keys.wide, decoder.intermediate_size),
        (keys.positions, decoder.max_position_embeddings),
    ];
    sizes.into_iter().try_for_each(|(key, size)| bounded(key, size, MOST).map(drop))?;
    let Decoder { num_attention_heads: heads, num_key_value_heads: kv_heads, head_dim, .. } =
        *decoder;
    if !heads.is_multiple_of(kv_heads) {
        return Err(format!(
            "{heads} attention heads cannot share {kv_heads} heads of keys (num_key_value_heads)"
        ));
    }
    if !head_dim.is_multiple_of(2) || !(2..=MAX_HEAD_DIM).contains(&head_dim) {
        return Err(format!(
            "heads of {head_dim} columns are not supported: an even number up to {MAX_HEAD_DIM} is"
        ));
    }
    if !(decoder.norm_eps > 0.0 && decoder.norm_eps < 1.0) {
        return Err(format!("{} must be above 0 and below 1", keys.eps));
    }
    if decoder.max_position_embeddings < 2 {
        return Err(format!("a {} of at least 2 is needed", keys.positions));
    }
    let [hidden, queries, kv, wide, layers, tokens] = [
        decoder.hidden_size,
        decoder.query_width(),
        decoder.key_width(),
        decoder.intermediate_size,
        decoder.num_hidden_layers,
        decoder.vocab_size,
    ]
    .map(|size| size as u128);
    let numbers = hidden * (2 * tokens + layers * (2 * queries + 2 * kv + 3 * wide));
    if numbers > MOST_PARAMETERS {
        return Err(format!(
            "its sizes make {numbers} parameters, and {MOST_PARAMETERS} are the most"
        ));
    }
    Ok(())
}

/// `config.json` of a decoder: what its source said, and its own sizes.
pub(super) fn to_json(decoder: &Decoder, _: &ModelConfig) -> Value {
    let (family, keys) = (decoder.family, decoder.family.keys);
    let mut json = match &*decoder.details.0 {
        Value::Object(details) => details.clone(),
        _ => Map::new(),
    };
    let own = [
        ("architectures", json!([family.class])),
        ("model_type", json!(family.model_type)),
        ("vocab_size", json!(decoder.vocab_size)),
        (keys.hidden_size, json!(decoder.hidden_size)),
        (keys.layers, json!(decoder.num_hidden_layers)),
        (keys.heads, json!(decoder.num_attention_heads)),
        (keys.wide, json!(decoder.intermediate_size)),
        (keys.positions, json!(decoder.max_position_embeddings)),
        (keys.eps, short(decoder.norm_eps)),
        ("tie_word_embeddings", json!(decoder.tie_word_embeddings)),
        ("torch_dtype", json!("float32")),
    ];
    json.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
    json.extend((family.write)(decoder));
    Value::Object(json)
}

#[cfg(test)]
mod tests {
    use super::super::{gemma, gpt2, llama, qwen};
    use super::*;
    use crate::models::{Architecture, Input};

    fn base() -> Value {
        json!({
            "vocab_size": 100, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 6,
            "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 20, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64, "rope_theta": 1e5, "tie_word_embeddings": true, "bos_token_id": 7,
        })
    }

    #[test]
    fn what_is_written_is_read_again() {
        let gpt2 = json!({
            "vocab_size": 100, "n_embd": 12, "n_layer": 2, "n_head": 3, "n_positions": 64, "layer_norm_epsilon": 1e-5,
        });
        let mut sliding = base();
        sliding["use_sliding_window"] = true.into();
        sliding["sliding_window"] = 8.into();
        sliding["max_window_layers"] = 1.into();
        let mut gemma = sliding.clone();
        gemma["_sliding_window_pattern"] = 2.into();
        gemma["rope_local_base_freq"] = 1e4.into();
        gemma["query_pre_attn_scalar"] = 6.into();
        for (kind, json, windows) in [
            (&llama::LLAMA, base(), [None; 3]),
            (&llama::MISTRAL_FAMILY, sliding.clone(), [Some(8); 3]),
            (&qwen::QWEN2_FAMILY, sliding.clone(), [None, Some(8), Some(8)]),
            (&qwen::QWEN3_FAMILY, base(), [None; 3]),
            (&gpt2::GPT2, gpt2, [None; 3]),
            (&gemma::GEMMA3_FAMILY, gemma, [Some(8), None, Some(8)]),
        ] {
            let decoder = of_json(kind, &json).unwrap();
            assert_eq!(decoder.windows, windows[..decoder.num_hidden_layers]);
            let input = Input::Tokens(decoder.input());
            let architecture = Architecture::Decoder(decoder.clone());
            let written = to_json(&decoder, &ModelConfig::new(architecture, input, Vec::new()));
            assert_eq!(written["bos_token_id"], json["bos_token_id"]);
            let again = of_json(kind, &written).unwrap();
            assert_eq!(again, decoder);
        }
    }

    #[test]
    fn what_is_impossible_or_not_supported_is_refused() {
        for (key, value, problem) in [
            ("num_key_value_heads", json!(4), "6 attention heads cannot share 4 heads of keys"),
            ("head_dim", json!(258), "heads of 258 columns are not supported"),
            ("head_dim", json!(5), "heads of 5 columns are not supported"),
            ("vocab_size", json!(0), "a vocab_size of 0 is not possible"),
            ("vocab_size", json!(1_u64 << 40), "is not possible"),
            ("num_hidden_layers", json!(1_u64 << 40), "is not possible"),
            ("hidden_size", json!("12"), "hidden_size must be a whole number"),
            ("hidden_act", json!("mish"), "hidden_act `mish` is none of silu"),
            ("attention_bias", json!("no"), "attention_bias must be true or false"),
            ("rope_theta", Value::Null, "neither rope_theta nor rope_parameters"),
            ("rms_norm_eps", json!(0.0), "rms_norm_eps must be above 0"),
            ("quantization_config", json!({ "quant_method": "awq" }), "quantised"),
        ] {
            let mut json = base();
            json[key] = value;
            let error = of_json(&llama::LLAMA, &json).unwrap_err();
            assert!(error.contains(problem), "{key}: {error}");
        }
        let gemma = |key: &str, value: Value| {
            let mut json = base();
            json["sliding_window"] = 8.into();
            json["rope_local_base_freq"] = 1e4.into();
            json[key] = value;
            of_json(&gemma::GEMMA3_FAMILY, &json).err().unwrap_or_default()
        };
        assert_eq!(gemma("bos_token_id", 1.into()), "");
        for (key, value, problem) in [
            ("final_logit_softcapping", json!(30.0), "only null is supported"),
            ("attn_logit_softcapping", json!(50.0), "only null is supported"),
            ("use_bidirectional_attention", json!(true), "must be false"),
            ("query_pre_attn_scalar", json!(0), "must be above 0"),
            ("sliding_window", Value::Null, "no sliding_window"),
            ("rope_theta", Value::Null, "neither rope_theta nor rope_parameters"),
            ("rope_local_base_freq", Value::Null, "of layers that see a window"),
            ("layer_types", json!(["full_attention"]), "names 1 layers"),
        ] {
            let error = gemma(key, value);
            assert!(error.contains(problem), "{key}: {error}");
        }
        let mut json = base();
        json["intermediate_size"] = (1 << 24).into();
        json["hidden_size"] = (1 << 24).into();
        assert!(of_json(&llama::LLAMA, &json).unwrap_err().contains("are the most"));
    }
}
