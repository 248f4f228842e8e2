//! A WordPiece tokenizer as a GGUF's keys: llama.cpp's `bert`.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::source::{Keys, Source, Tokens, key};
use super::{NORMAL, SPACE, UNKNOWN};
use crate::config::strings;
use crate::error::Error;
use crate::value::{Array, Value};

/// In front of a piece that begins no word, in Hugging Face's files.
const WITHIN: &str = "##";

/// The keys of a WordPiece tokenizer. llama.cpp marks the pieces that begin words, and Hugging Face those that do not.
///
/// # Errors
/// [`Error::Tokenizer`] naming what llama.cpp would do otherwise: it always makes letters small, takes accents away and sets
/// Chinese characters apart.
pub(super) fn write(source: &Source<'_>) -> Result<Keys, Error> {
    let (tokenizer, model) = (source.tokenizer, &source.tokenizer["model"]);
    if model["continuing_subword_prefix"].as_str().is_some_and(|prefix| prefix != WITHIN) {
        return Err(Error::tokenizer(
            "model.continuing_subword_prefix",
            "llama.cpp knows ## alone",
        ));
    }
    let normalizer = &tokenizer["normalizer"];
    let is_berts = normalizer["type"] == "BertNormalizer"
        && normalizer["lowercase"] == true
        && normalizer["strip_accents"] != false
        && normalizer["handle_chinese_chars"] != false;
    if !is_berts || tokenizer["pre_tokenizer"]["type"] != "BertPreTokenizer" {
        let problem = "llama.cpp makes letters small, takes their accents away and cuts at punctuation, as BERT's uncased \
                       models do, and this tokenizer does not";
        return Err(Error::tokenizer("normalizer", problem));
    }
    let mut tokens = Tokens::of(tokenizer, source.rows)?;
    let [first, last] = around(&tokenizer["post_processor"])?;
    let unknown = model["unk_token"].as_str().unwrap_or("[UNK]");
    let id_of = |text: &str| {
        let id = tokens.ids.get(text).copied();
        id.ok_or_else(|| Error::tokenizer("model.vocab", format!("{text:?} is no token")))
    };
    let (first, last, unknown) = (id_of(first)?, id_of(last)?, id_of(unknown)?);
    let mut keys = vec![(key("model"), Value::String("bert".into()))];
    // Its own misspelling.
    for (name, id) in
        [("cls", first), ("bos", first), ("seperator", last), ("eos", last), ("unknown", unknown)]
    {
        keys.push((key(&format!("{name}_token_id")), Value::U32(id as u32)));
    }
    for (name, text) in [("padding", "[PAD]"), ("mask", "[MASK]")] {
        let id = tokens.ids.get(text);
        keys.extend(id.map(|&id| (key(&format!("{name}_token_id")), Value::U32(id as u32))));
    }
    for (text, kind) in tokens.texts.iter_mut().zip(&tokens.types) {
        if *kind == NORMAL {
            *text = match text.strip_prefix(WITHIN).filter(|rest| !rest.is_empty()) {
                Some(rest) => rest.to_owned(),
                None => format!("{SPACE}{text}"),
            };
        }
    }
    tokens.types[unknown] = UNKNOWN;
    let mut seen = HashSet::new();
    if let Some(text) = tokens.texts.iter().find(|text| !seen.insert(&***text)) {
        return Err(Error::tokenizer("model.vocab", format!("{text:?} would be there twice")));
    }
    let types = tokens.types.iter().map(|&kind| kind as i32).collect();
    keys.push((key("token_type"), Value::Array(Array::I32(types))));
    keys.push((key("tokens"), strings(tokens.texts)));
    Ok(keys)
}

/// The tokens that a text is put between.
fn around(post: &Json) -> Result<[&str; 2], Error> {
    let found = match post["type"].as_str() {
        Some("BertProcessing") => Some([&post["cls"][0], &post["sep"][0]]),
        Some("TemplateProcessing") => match post["single"].as_array().map(Vec::as_slice) {
            Some([first, text, last]) if text.get("Sequence").is_some() => {
                Some([&first["SpecialToken"]["id"], &last["SpecialToken"]["id"]])
            }
            _ => None,
        },
        _ => None,
    };
    let texts = found.and_then(|[first, last]| Some([first.as_str()?, last.as_str()?]));
    texts.ok_or_else(|| {
        Error::tokenizer("post_processor", "llama.cpp puts a text between two tokens")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer() -> Json {
        let special =
            |id: u64, content: &str| json!({ "id": id, "content": content, "special": true });
        json!({
            "normalizer": { "type": "BertNormalizer", "lowercase": true, "strip_accents": null, "handle_chinese_chars": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": { "type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3] },
            "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "vocab": { "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "film": 4, "##s": 5, "##": 6, "s": 7 },
            },
        })
    }

    fn written(tokenizer: &Json) -> Result<Keys, Error> {
        let (settings, config) = (json!({}), json!({}));
        let (settings, config) = (&settings, &config);
        write(&Source { tokenizer, settings, config, template: None, pre: None, rows: 9 })
    }

    #[test]
    fn beginnings_of_words_are_marked() {
        let keys = written(&tokenizer()).unwrap();
        let get =
            |name: &str| keys.iter().find(|(own, _)| *own == key(name)).map(|(_, value)| value);
        let Some(Value::Array(Array::String(tokens))) = get("tokens") else { panic!("{keys:?}") };
        let wanted = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁film", "s", "▁##", "▁s", "[PAD8]"];
        assert_eq!(*tokens, wanted);
        let Some(Value::Array(Array::I32(types))) = get("token_type") else { panic!("{keys:?}") };
        assert_eq!(*types, [3, 2, 3, 3, 1, 1, 1, 1, 5]);
        for (name, id) in
            [("cls", 2), ("bos", 2), ("seperator", 3), ("eos", 3), ("unknown", 1), ("padding", 0)]
        {
            let Some(Value::U32(own)) = get(&format!("{name}_token_id")) else { panic!("{name}") };
            assert_eq!(*own, id, "{name}");
        }
    }

    #[test]
    fn what_llama_cpp_would_do_otherwise_is_refused() {
        for (place, value, wanted) in [
            ("/normalizer/lowercase", json!(false), "makes letters small"),
            ("/normalizer/strip_accents", json!(false), "makes letters small"),
            ("/normalizer/handle_chinese_chars", json!(false), "makes letters small"),
            ("/pre_tokenizer/type", json!("Whitespace"), "makes letters small"),
            ("/post_processor/type", json!("RobertaProcessing"), "between two tokens"),
            ("/model/continuing_subword_prefix", json!("@@"), "## alone"),
            ("/model/unk_token", json!("<unk>"), "\"<unk>\" is no token"),
            ("/model/vocab/s", json!(5), "number 5"),
        ] {
            let mut tokenizer = tokenizer();
            *tokenizer.pointer_mut(place).unwrap() = value;
            let problem = written(&tokenizer).unwrap_err().to_string();
            assert!(problem.contains(wanted), "{place}: {problem}");
        }
    }
}
