//! A decoder's folder.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Carried;
use super::family::Family;
use super::file;
use crate::data::Tokenizer;
use crate::error::Error;
use crate::files::read_text;
use crate::models::file_names::{CONFIG, bad};
use crate::models::{Architecture, Input, ModelConfig};

/// Name of the file with a language model's tokens of beginning and end, and how it was meant to be sampled from.
pub(in crate::models) const GENERATION: &str = "generation_config.json";
/// The largest configuration that is read.
const MOST_BYTES: u64 = 64 << 20;

/// The decoder of a folder, given its `config.json`.
///
/// # Errors
/// [`Error::Model`] when that makes no sense, or the tokenizer does not.
pub(super) fn read(
    folder: &Path,
    family: &'static Family,
    json: &Value,
) -> Result<ModelConfig, Error> {
    let path = folder.join(CONFIG);
    let mut decoder = file::of_json(family, json).map_err(|problem| bad(&path, problem))?;
    let generation = folder.join(GENERATION);
    if generation.is_file() {
        let text = read_text(&generation, MOST_BYTES)?;
        let read = serde_json::from_str(&text).map_err(|error| {
            bad(&generation, format!("not a generation configuration: {error}"))
        })?;
        decoder.generation = Some(Carried(Arc::new(read)));
    }
    let tokenizer = Tokenizer::load(folder)?;
    tokenizer.check(decoder.vocab_size)?;
    let most = tokenizer.files().max_length();
    let mut tokens = decoder.input();
    tokens.max_length = most.map_or(tokens.max_length, |most| most.min(tokens.max_length));
    tokens.tokenizer = Some(Arc::new(tokenizer));
    if tokens.max_length < 2 {
        return Err(bad(&path, "its texts may have no two tokens"));
    }
    Ok(ModelConfig::new(Architecture::Decoder(decoder), Input::Tokens(tokens), Vec::new()))
}
