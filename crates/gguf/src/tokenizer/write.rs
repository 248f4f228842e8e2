//! Hugging Face's tokenizer files as a GGUF's keys.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::pre::{Pre, steps};
use super::{
    BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, merges, padding, unigram, words,
};
use crate::config::strings;
use crate::error::Error;
use crate::value::{Array, Value};

/// What a tokenizer is written from.
pub(crate) struct Source<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a Json,
    /// `tokenizer_config.json`, or null.
    pub settings: &'a Json,
    /// `config.json`.
    pub config: &'a Json,
    /// The chat template, if there is one.
    pub template: Option<&'a str>,
    /// `tokenizer.ggml.pre` of the model that the tokenizer comes from, if that is known.
    pub pre: Option<&'a str>,
    /// Rows of the embedding.
    pub rows: usize,
}

pub(super) type Keys = Vec<(String, Value)>;

pub(super) fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// The tokens by their numbers: texts and types. Rows that no token has are named as llama.cpp names them.
pub(super) struct Tokens<'a> {
    pub ids: HashMap<&'a str, usize>,
    pub texts: Vec<String>,
    pub types: Vec<i64>,
}

impl<'a> Tokens<'a> {
    pub fn of(tokenizer: &'a Json, rows: usize) -> Result<Self, Error> {
        let vocab = vocabulary(&tokenizer["model"]["vocab"]);
        let vocab =
            vocab.ok_or_else(|| Error::tokenizer("model.vocab", "it is no map of tokens"))?;
        let within = |part: &str, text: &str, id: Option<u64>| {
            let id = id.and_then(|id| usize::try_from(id).ok());
            let problem =
                || format!("the number of {text:?} is none of the embedding's {rows} rows");
            id.filter(|&id| id < rows).ok_or_else(|| Error::tokenizer(part, problem()))
        };
        let mut ids = HashMap::new();
        let mut texts: Vec<Option<String>> = vec![None; rows];
        let mut types = vec![UNUSED; rows];
        for (text, id) in vocab {
            let id = within("model.vocab", text, id)?;
            if texts[id].replace(text.to_owned()).is_some() {
                return Err(Error::tokenizer(
                    "model.vocab",
                    format!("two tokens have the number {id}"),
                ));
            }
            types[id] = NORMAL;
            ids.insert(text, id);
        }
        for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let text = token["content"].as_str().unwrap_or_default();
            let id = within("added_tokens", text, token["id"].as_u64())?;
            let beside = ["single_word", "lstrip", "rstrip"];
            // RoBERTa's mask takes a space with it, and stands in no text that a model of vectors reads.
            if text != MASK && beside.into_iter().any(|name| token[name] == true) {
                let problem = format!(
                    "{text:?} takes spaces or words beside it into account, which llama.cpp does not"
                );
                return Err(Error::tokenizer("added_tokens", problem));
            }
            types[id] = if token["special"] == true || looks_special(text) {
                CONTROL
            } else {
                USER_DEFINED
            };
            // Such tokens are looked for in the text before its spaces are replaced.
            let shown =
                if types[id] == CONTROL { text.to_owned() } else { text.replace(SPACE, " ") };
            texts[id] = Some(shown);
            ids.insert(text, id);
        }
        let named = |(id, text): (usize, Option<String>)| text.unwrap_or_else(|| padding(id));
        let texts: Vec<String> = texts.into_iter().enumerate().map(named).collect();
        let mut seen = std::collections::HashSet::new();
        if let Some(text) = texts.iter().find(|text| !seen.insert(&***text)) {
            return Err(Error::tokenizer("model.vocab", format!("{text:?} would be there twice")));
        }
        Ok(Self { ids, texts, types })
    }
}

/// The mask of models that have a lone one.
const MASK: &str = "<mask>";

/// The tokens of a vocabulary with their numbers: a map, or Unigram's list of pieces and scores.
fn vocabulary(vocab: &Json) -> Option<Vec<(&str, Option<u64>)>> {
    match vocab {
        Json::Object(map) => Some(map.iter().map(|(text, id)| (&**text, id.as_u64())).collect()),
        Json::Array(pieces) => {
            let named = pieces.iter().zip(0_u64..);
            named.map(|(piece, id)| Some((piece[0].as_str()?, Some(id)))).collect()
        }
        _ => None,
    }
}

/// Whether a token is written as a special one though its file does not say so, as llama.cpp's converter has it.
fn looks_special(text: &str) -> bool {
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<｜") && text.ends_with("｜>"))
        || (text.starts_with("<unused") && text.ends_with('>'))
}

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

/// The tokens that begin, end, pad and stand for what is unknown; which a text is given.
pub(super) fn ends(source: &Source<'_>, tokens: &Tokens<'_>, keys: &mut Keys) -> Result<(), Error> {
    let (bos, eos) = around(&source.tokenizer["post_processor"])?;
    let by_text = |part: &str, text: &str| {
        let id = tokens.ids.get(text).copied();
        id.ok_or_else(|| Error::tokenizer(part, format!("{text:?} is no token")))
    };
    for (name, theirs, from_template) in [
        ("bos", "bos_token", bos),
        ("eos", "eos_token", eos),
        ("padding", "pad_token", None),
        ("unknown", "unk_token", None),
    ] {
        let setting = &source.settings[theirs];
        let text =
            from_template.or_else(|| setting.as_str().or_else(|| setting["content"].as_str()));
        let number = &source.config[format!("{theirs}_id")];
        // A model may end in several ways; the first is the one of its own.
        let number =
            number.as_u64().or_else(|| number[0].as_u64()).and_then(|id| usize::try_from(id).ok());
        let id = match text {
            Some(text) => Some(by_text(theirs, text)?),
            None => number.filter(|&id| id < source.rows),
        };
        keys.extend(id.map(|id| (key(&format!("{name}_token_id")), Value::U32(id as u32))));
    }
    keys.push((key("add_bos_token"), Value::Bool(bos.is_some())));
    keys.push((key("add_eos_token"), Value::Bool(eos.is_some())));
    Ok(())
}

/// The tokens that a text is put between.
fn around(post: &Json) -> Result<(Option<&str>, Option<&str>), Error> {
    let (mut bos, mut eos) = (None, None);
    for step in steps(post, "processors") {
        match step["type"].as_str() {
            Some("ByteLevel") => {}
            Some("RobertaProcessing" | "BertProcessing") if step["cls"][0].is_string() => {
                (bos, eos) = (step["cls"][0].as_str(), step["sep"][0].as_str());
            }
            Some("TemplateProcessing") => {
                let parts = step["single"].as_array().map(Vec::as_slice).unwrap_or_default();
                let special =
                    |part: &'_ Json| part["SpecialToken"]["id"].as_str().map(str::to_owned);
                let at = parts.iter().position(|part| part.get("Sequence").is_some());
                let known = at.filter(|&at| {
                    at <= 1
                        && parts.len() - at <= 2
                        && parts.iter().filter(|p| special(p).is_some()).count() == parts.len() - 1
                });
                let Some(at) = known else {
                    return Err(Error::tokenizer(
                        "post_processor",
                        "a template of other than one token on either side",
                    ));
                };
                bos = parts[..at].first().and_then(|part| part["SpecialToken"]["id"].as_str());
                eos = parts[at + 1..].first().and_then(|part| part["SpecialToken"]["id"].as_str());
            }
            other => {
                return Err(Error::tokenizer(
                    "post_processor",
                    format!("{}, which llama.cpp does not do", json!(other)),
                ));
            }
        }
    }
    Ok((bos, eos))
}

#[cfg(test)]
mod tests;
