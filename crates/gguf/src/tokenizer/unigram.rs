//! A SentencePiece model of single pieces' probabilities as a GGUF's keys: llama.cpp's `t5`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::pre::steps;
use super::source::{Keys, Source, Tokens, ends, key};
use super::{SPACE, UNKNOWN};
use crate::config::strings;
use crate::error::Error;
use crate::value::{Array, Value};

/// The score of a row that no token has: no text is cut so.
const NEVER: f32 = -1e4;

/// The keys of a Unigram tokenizer. llama.cpp replaces letters by the model's own table (`precompiled_charsmap`), marks
/// spaces, and cuts a text so that the sum of its pieces' scores is the largest.
///
/// # Errors
/// [`Error::Tokenizer`] naming what llama.cpp would do otherwise.
pub(super) fn write(source: &Source<'_>) -> Result<Keys, Error> {
    let (tokenizer, model) = (source.tokenizer, &source.tokenizer["model"]);
    if model["byte_fallback"] == true {
        let problem = "letters that are no tokens become bytes, which llama.cpp's `t5` does not do";
        return Err(Error::tokenizer("model.byte_fallback", problem));
    }
    let spaces = Spaces::of(tokenizer)?;
    let mut tokens = Tokens::of(tokenizer, source.rows)?;
    let unknown = model["unk_id"].as_u64().and_then(|id| usize::try_from(id).ok());
    let unknown = unknown.filter(|&id| id < source.rows).ok_or_else(|| {
        Error::tokenizer("model.unk_id", "llama.cpp needs a token for what is unknown")
    })?;
    tokens.types[unknown] = UNKNOWN;
    let types = tokens.types.iter().map(|&kind| kind as i32).collect();
    let mut keys = vec![
        (key("model"), Value::String("t5".into())),
        (key("pre"), Value::String("default".into())),
        (key("scores"), Value::Array(Array::F32(scores(model, source.rows)?))),
        (key("token_type"), Value::Array(Array::I32(types))),
        (key("add_space_prefix"), Value::Bool(spaces.prefix)),
        (key("remove_extra_whitespaces"), Value::Bool(spaces.merge)),
    ];
    let table =
        spaces.table.map(|table| (key("precompiled_charsmap"), Value::Array(Array::U8(table))));
    keys.extend(table);
    ends(source, &tokens, &mut keys)?;
    // Where a file does not say, llama.cpp takes another number.
    let name = key("unknown_token_id");
    keys.retain(|(other, _)| *other != name);
    keys.push((name, Value::U32(unknown as u32)));
    keys.push((key("tokens"), strings(tokens.texts)));
    Ok(keys)
}

fn scores(model: &Json, rows: usize) -> Result<Vec<f32>, Error> {
    let mut scores = vec![NEVER; rows];
    let pieces = model["vocab"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (score, piece) in scores.iter_mut().zip(pieces) {
        let known = piece[1].as_f64().filter(|score| score.is_finite());
        *score = known
            .ok_or_else(|| Error::tokenizer("model.vocab", format!("{} has no score", piece[0])))?
            as f32;
    }
    Ok(scores)
}

/// What becomes of letters and spaces before a text is cut.
struct Spaces {
    /// SentencePiece's table of replacements.
    table: Option<Vec<u8>>,
    /// Whether a space is put before texts.
    prefix: bool,
    /// Whether spaces beside others, and those at either end, are left out.
    merge: bool,
}

impl Spaces {
    fn of(tokenizer: &Json) -> Result<Self, Error> {
        let unknown = |part: &str, step: &Json| {
            let problem = format!("{}, which llama.cpp does not do here", step["type"]);
            Err(Error::tokenizer(part, problem))
        };
        let (mut table, mut merges, mut strips) = (None, false, false);
        for step in steps(&tokenizer["normalizer"], "normalizers") {
            match step["type"].as_str() {
                Some("Precompiled") if table.is_none() && !merges && !strips => {
                    let text = step["precompiled_charsmap"].as_str().unwrap_or_default();
                    let bytes = STANDARD.decode(text).map_err(|error| {
                        Error::tokenizer("normalizer.precompiled_charsmap", error.to_string())
                    })?;
                    table = Some(bytes).filter(|bytes| !bytes.is_empty());
                }
                Some("Strip") if step["strip_right"] == true => strips = true,
                Some("Replace")
                    if step["pattern"]["Regex"] == " {2,}"
                        && (step["content"] == " " || step["content"] == SPACE) =>
                {
                    merges = true;
                }
                _ => return unknown("normalizer", step),
            }
        }
        let mut prefix = None;
        for step in steps(&tokenizer["pre_tokenizer"], "pretokenizers") {
            match step["type"].as_str() {
                // The table makes a space of every other white space.
                Some("WhitespaceSplit") if table.is_some() && prefix.is_none() => {
                    (merges, strips) = (true, true);
                }
                Some("Metaspace") if step["replacement"] == SPACE && prefix.is_none() => {
                    prefix = Some(match step["prepend_scheme"].as_str() {
                        Some(scheme) => scheme != "never",
                        None => step["add_prefix_space"] != false,
                    });
                }
                _ => return unknown("pre_tokenizer", step),
            }
        }
        let problem = match prefix {
            None => "it marks no spaces, and llama.cpp does",
            Some(_) if merges != strips => {
                "llama.cpp leaves out spaces beside others and at a text's end, or neither"
            }
            Some(prefix) => return Ok(Self { table, prefix, merge: merges }),
        };
        Err(Error::tokenizer("pre_tokenizer", problem))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    fn tokenizer() -> Json {
        let special =
            |id: u64, content: &str| json!({ "id": id, "content": content, "special": true });
        let mask = json!({ "id": 7, "content": "<mask>", "special": true, "lstrip": true });
        json!({
            "normalizer": { "type": "Precompiled", "precompiled_charsmap": "AQID" },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" },
                { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
            ] },
            "post_processor": { "type": "TemplateProcessing", "single": [
                { "SpecialToken": { "id": "<s>" } }, { "Sequence": { "id": "A" } }, { "SpecialToken": { "id": "</s>" } },
            ] },
            "added_tokens": [special(0, "<s>"), special(1, "<pad>"), special(2, "</s>"), special(3, "<unk>"), mask],
            "model": { "type": "Unigram", "unk_id": 3, "byte_fallback": false, "vocab": [
                ["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁film", -2.5], ["s", -3.0], ["▁", -3.5],
            ] },
        })
    }

    fn written(tokenizer: &Json) -> Result<HashMap<String, Value>, Error> {
        let (settings, config) = (json!({ "pad_token": "<pad>" }), json!({}));
        let (settings, config) = (&settings, &config);
        let source = Source { tokenizer, settings, config, template: None, pre: None, rows: 9 };
        Ok(write(&source)?.into_iter().collect())
    }

    #[test]
    fn pieces_have_their_scores() {
        let keys = written(&tokenizer()).unwrap();
        let get = |name: &str| &keys[&key(name)];
        let tokens = get("tokens").as_strings().unwrap();
        assert_eq!(
            tokens,
            ["<s>", "<pad>", "</s>", "<unk>", "▁film", "s", "▁", "<mask>", "[PAD8]"]
        );
        assert_eq!(get("token_type").as_integers().unwrap(), [3, 3, 3, 2, 1, 1, 1, 3, 5]);
        let scores = vec![0.0, 0.0, 0.0, 0.0, -2.5, -3.0, -3.5, NEVER, NEVER];
        assert_eq!(*get("scores"), Value::Array(Array::F32(scores)));
        assert_eq!(*get("precompiled_charsmap"), Value::Array(Array::U8(vec![1, 2, 3])));
        for (name, id) in [("bos", 0), ("padding", 1), ("eos", 2), ("unknown", 3)] {
            assert_eq!(get(&format!("{name}_token_id")).as_u64(), Some(id), "{name}");
        }
        for name in
            ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"]
        {
            assert_eq!(get(name).as_bool(), Some(true), "{name}");
        }
        // A model that leaves spaces where they are.
        let mut plain = tokenizer();
        plain["normalizer"] = Json::Null;
        plain["pre_tokenizer"] =
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "never" });
        let keys = written(&plain).unwrap();
        assert_eq!(keys[&key("remove_extra_whitespaces")].as_bool(), Some(false));
        assert_eq!(keys[&key("add_space_prefix")].as_bool(), Some(false));
        assert!(!keys.contains_key(&key("precompiled_charsmap")));
    }

    #[test]
    fn what_llama_cpp_would_do_otherwise_is_refused() {
        let merges = json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " });
        let metaspace =
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" });
        for (place, value, wanted) in [
            ("/model/byte_fallback", json!(true), "become bytes"),
            ("/model/unk_id", Json::Null, "what is unknown"),
            ("/model/unk_id", json!(99), "what is unknown"),
            ("/model/vocab/4", json!(["▁film", null]), "has no score"),
            ("/model/vocab/4", json!([7, -1.0]), "no map of tokens"),
            ("/normalizer", json!({ "type": "NFKC" }), "NFKC"),
            ("/normalizer", Json::Null, "WhitespaceSplit"),
            ("/normalizer/precompiled_charsmap", json!("!"), "precompiled_charsmap"),
            ("/pre_tokenizer", json!({ "type": "WhitespaceSplit" }), "marks no spaces"),
            ("/pre_tokenizer", json!({ "type": "Whitespace" }), "\"Whitespace\""),
            ("/post_processor", json!({ "type": "Odd" }), "Odd"),
        ] {
            let mut tokenizer = tokenizer();
            *tokenizer.pointer_mut(place).unwrap() = value;
            let problem = written(&tokenizer).unwrap_err().to_string();
            assert!(problem.contains(wanted), "{place}: {problem}");
        }
        let mut half = tokenizer();
        (half["normalizer"], half["pre_tokenizer"]) = (merges, metaspace);
        let problem = written(&half).err().unwrap().to_string();
        assert!(problem.contains("at a text's end"), "{problem}");
    }
}
