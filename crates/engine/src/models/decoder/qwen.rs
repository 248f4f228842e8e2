//! Qwen2 and Qwen2.5 (Yang et al. 2024), whose queries, keys and values have biases; Qwen3 (2025), which has norms of
//! queries and keys instead.

use serde_json::{Map, Value, json};

use super::family::Family;
use super::file::flag;
use super::llama::{KEYS, NAMES, kinds_of_layers, layer_types, read, window, write};
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

/// Which layers see so many tokens alone: those that are listed, or those from `max_window_layers` on.
fn read_windows(json: &Value, decoder: &mut Decoder) -> Result<(), String> {
    if !flag(json, "use_sliding_window", false)? {
        return Ok(());
    }
    let window = window(json)?.ok_or(
        "use_sliding_window is true, and there is no sliding_window: give both or neither",
    )?;
    let layers = decoder.windows.len();
    let slides = match layer_types(json, layers)? {
        Some(slides) => slides,
        None => {
            let first = json["max_window_layers"].as_u64().unwrap_or(28);
            (0..layers as u64).map(|layer| layer >= first).collect()
        }
    };
    decoder.windows = slides.into_iter().map(|slides| slides.then_some(window)).collect();
    Ok(())
}

fn write_windows(decoder: &Decoder) -> Map<String, Value> {
    let mut keys = write(decoder);
    let windows = &decoder.windows;
    let first = windows.iter().position(Option::is_some).unwrap_or(windows.len());
    keys.insert("layer_types".to_owned(), kinds_of_layers(decoder));
    keys.insert("use_sliding_window".to_owned(), json!(windows.iter().any(Option::is_some)));
    keys.insert("max_window_layers".to_owned(), json!(first));
    keys
}
