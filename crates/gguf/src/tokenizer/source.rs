//! What a tokenizer is written from, as every kind of it needs it: files, tokens by their numbers, what a text begins and
//! ends with.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::pre::steps;
use super::{CONTROL, NORMAL, SPACE, UNUSED, USER_DEFINED, padding};
use crate::error::Error;
use crate::value::Value;

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
