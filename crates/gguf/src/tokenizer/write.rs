//! Hugging Face's tokenizer files as a GGUF's keys.

use serde_json::Value as Json;

use super::pre::{Pre, steps};
use super::source::{Keys, Source, Tokens, ends, key};
use super::{BYTE, SPACE, UNKNOWN, merges, unigram, words};
use crate::config::strings;
use crate::error::Error;
use crate::value::{Array, Value};

/// The keys of a tokenizer.
///
/// # Errors
/// [`Error::Tokenizer`] naming what llama.cpp would do otherwise.
pub(crate) fn write(source: &Source<'_>) -> Result<Keys, Error> {
    let model = &source.tokenizer["model"];
    match model["type"].as_str() {
        Some("WordPiece") => return words::write(source),
        Some("Unigram") => return unigram::write(source),
        _ => {}
    }
    // Old files do not name it.
    if model.get("type").is_some_and(|kind| kind != "BPE") || !model["merges"].is_array() {
        return Err(Error::tokenizer("model.type", "it is none of BPE, WordPiece and Unigram"));
    }
    for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[part].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(Error::tokenizer(&format!("model.{part}"), "llama.cpp knows none"));
        }
    }
    let mut tokens = Tokens::of(source.tokenizer, source.rows)?;
    let merges = pairs(&model["merges"])?;
    let mut keys = if is_pieces(source.tokenizer) {
        pieces(source, &mut tokens, &merges)?
    } else {
        bytes(source, &merges)?
    };
    let types = tokens.types.iter().map(|&kind| kind as i32).collect();
    keys.push((key("token_type"), Value::Array(Array::I32(types))));
    ends(source, &tokens, &mut keys)?;
    keys.push((key("tokens"), strings(tokens.texts)));
    let template = source
        .template
        .map(|text| ("tokenizer.chat_template".to_owned(), Value::String(text.to_owned())));
    keys.extend(template);
    Ok(keys)
}

/// Merges, which files have as pairs or as texts with a space between.
fn pairs(merges: &Json) -> Result<Vec<(String, String)>, Error> {
    let pair = |merge: &Json| match merge {
        Json::String(text) => {
            text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()))
        }
        merge => match merge.as_array().map(Vec::as_slice) {
            Some([left, right]) => Some((left.as_str()?.to_owned(), right.as_str()?.to_owned())),
            _ => None,
        },
    };
    let pairs = merges.as_array().into_iter().flatten().map(pair).collect::<Option<Vec<_>>>();
    pairs.ok_or_else(|| Error::tokenizer("model.merges", "they are not pairs of tokens"))
}

/// Byte-level BPE.
fn bytes(source: &Source<'_>, merges: &[(String, String)]) -> Result<Keys, Error> {
    let found = Pre::of(source.tokenizer);
    let pre = match source.pre {
        None => found?.name(),
        // What is known here must be what it is said to be; of other names the caller knows.
        Some(name) => match (Pre::named(name), found) {
            (Some(known), Ok(found)) if known.pre_tokenizer() != found.pre_tokenizer() => {
                let problem =
                    format!("it cuts texts as {:?} does and not as {name:?}", found.name());
                return Err(Error::tokenizer("pre_tokenizer", problem));
            }
            (Some(_), Err(error)) => return Err(error),
            _ => name,
        },
    };
    if let Some((left, right)) =
        merges.iter().find(|(left, right)| left.contains(' ') || right.contains(' '))
    {
        return Err(Error::tokenizer(
            "model.merges",
            format!("{left:?} and {right:?}: bytes have no spaces"),
        ));
    }
    let merges = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    Ok(vec![
        (key("model"), Value::String("gpt2".into())),
        (key("pre"), Value::String(pre.into())),
        (key("merges"), strings(merges)),
    ])
}

/// Whether a tokenizer is a SentencePiece model's: letters that are no tokens become bytes.
fn is_pieces(tokenizer: &Json) -> bool {
    tokenizer["model"]["byte_fallback"] == true
}

/// SentencePiece's BPE.
fn pieces(
    source: &Source<'_>,
    tokens: &mut Tokens<'_>,
    merges: &[(String, String)],
) -> Result<Keys, Error> {
    let prefix = space_prefix(source.tokenizer)?;
    if source.pre.is_some_and(|name| name != "default") {
        return Err(Error::tokenizer("pre_tokenizer", "a SentencePiece model's is \"default\""));
    }
    for byte in 0..=255_u8 {
        let name = format!("<0x{byte:02X}>");
        let id = tokens.ids.get(&*name).copied();
        let id = id.ok_or_else(|| {
            Error::tokenizer("model.vocab", format!("the byte {name} is no token"))
        })?;
        tokens.types[id] = BYTE;
    }
    let unknown =
        source.tokenizer["model"]["unk_token"].as_str().and_then(|text| tokens.ids.get(text));
    if let Some(&id) = unknown {
        tokens.types[id] = UNKNOWN;
    }
    let scores = merges::to_scores(merges, &tokens.ids, source.rows)?;
    Ok(vec![
        (key("model"), Value::String("llama".into())),
        (key("pre"), Value::String("default".into())),
        (key("scores"), Value::Array(Array::F32(scores))),
        (key("add_space_prefix"), Value::Bool(prefix)),
    ])
}

/// Whether a space is put before texts. llama.cpp does so after every special token too; a `Metaspace` that does so at
/// a text's beginning alone is written all the same, as llama.cpp's own converter does.
fn space_prefix(tokenizer: &Json) -> Result<bool, Error> {
    let normalizers = steps(&tokenizer["normalizer"], "normalizers");
    let pre_tokenizers = steps(&tokenizer["pre_tokenizer"], "pretokenizers");
    let escapes = |step: &Json| {
        step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE
    };
    let prepends = |step: &Json| step["type"] == "Prepend" && step["prepend"] == SPACE;
    match (normalizers.as_slice(), pre_tokenizers.as_slice()) {
        ([prepend, escape], []) if prepends(prepend) && escapes(escape) => Ok(true),
        ([escape], []) if escapes(escape) => Ok(false),
        ([], [space])
            if space["type"] == "Metaspace"
                && space["replacement"] == SPACE
                && space["split"] == false =>
        {
            match space["prepend_scheme"].as_str() {
                Some("never") => Ok(false),
                Some("first" | "always") => Ok(true),
                _ => Err(Error::tokenizer(
                    "pre_tokenizer",
                    "a Metaspace that does not say where it puts spaces",
                )),
            }
        }
        _ => {
            let problem = "the normalizer and the pre_tokenizer are no SentencePiece model's that llama.cpp knows";
            Err(Error::tokenizer("normalizer", problem))
        }
    }
}

#[cfg(test)]
mod tests;
