//! Qwen2 and Qwen2.5 (Yang et al. 2024), whose queries, keys and values have biases; Qwen3 (2025), which has norms of
//! queries and keys instead.

use serde_json::{Map, Value, json};

use super::family::Family;
use super::file::flag;
use super::llama::{KEYS, NAMES, read, window, write};
use super::{Biases, Decoder, folder};
use crate::models::model_type::ModelType;

/// Qwen2's line in the registry.
pub const QWEN2: ModelType =
    ModelType::new("qwen2", |at, json| folder::read(at, &QWEN2_FAMILY, json));
/// Qwen3's line in the registry.
pub const QWEN3: ModelType =
    ModelType::new("qwen3", |at, json| folder::read(at, &QWEN3_FAMILY, json));

pub(super) static QWEN2_FAMILY: Family = Family {
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    names: &NAMES,
    keys: &KEYS,
    read: |json, decoder| {
        decoder.biases = Biases { queries: true, ..Biases::default() };
        read_windows(json, decoder)?;
        read(json, decoder)
    },
    write: write_windows,
};

pub(super) static QWEN3_FAMILY: Family = Family {
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    names: &NAMES,
    keys: &KEYS,
    read: |json, decoder| {
        let attention = flag(json, "attention_bias", false)?;
        decoder.biases = Biases { queries: attention, attended: attention, feed_forward: false };
        decoder.qk_norm = true;
        read_windows(json, decoder)?;
        read(json, decoder)
    },
    write: write_windows,
};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Which layers see so many tokens alone: those that are listed, or those from `max_window_layers` on.
fn read_windows(json: &Value, decoder: &mut Decoder) -> Result<(), String> {
    if !flag(json, "use_sliding_window", false)? {
        return Ok(());
    }
    let window = window(json)?.ok_or(
        "use_sliding_window is true, and there is no sliding_window: give both or neither",
    )?;
    let slides: Vec<bool> = match json["layer_types"].as_array() {
        Some(kinds) => {
            let slides = |kind: &Value| match kind.as_str() {
                Some(FULL) => Ok(false),
                Some(SLIDING) => Ok(true),
                _ => Err(format!("layer_types has {kind}, which is neither {FULL} nor {SLIDING}")),
            };
            kinds.iter().map(slides).collect::<Result<_, _>>()?
        }
        None => {
            let first = json["max_window_layers"].as_u64().unwrap_or(28);
            (0..decoder.windows.len() as u64).map(|layer| layer >= first).collect()
        }
    };
    if slides.len() != decoder.windows.len() {
        let (kinds, layers) = (slides.len(), decoder.windows.len());
        return Err(format!("layer_types names {kinds} layers, and num_hidden_layers is {layers}"));
    }
    decoder.windows = slides.into_iter().map(|slides| slides.then_some(window)).collect();
    Ok(())
}

fn write_windows(decoder: &Decoder) -> Map<String, Value> {
    let mut keys = write(decoder);
    let kind = |window: &Option<usize>| if window.is_some() { SLIDING } else { FULL };
    let kinds: Vec<&str> = decoder.windows.iter().map(kind).collect();
    let first = kinds.iter().position(|kind| *kind == SLIDING).unwrap_or(kinds.len());
    keys.insert("layer_types".to_owned(), json!(kinds));
    keys.insert("use_sliding_window".to_owned(), json!(kinds.contains(&SLIDING)));
    keys.insert("max_window_layers".to_owned(), json!(first));
    keys
}
