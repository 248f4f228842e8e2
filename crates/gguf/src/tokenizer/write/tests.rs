//! What is written of a tokenizer, and what is refused.

use std::collections::HashMap;

use serde_json::json;

use super::super::{CONTROL, NORMAL, UNUSED, USER_DEFINED};
use super::*;

fn byte_level() -> Json {
    json!({
        "added_tokens": [{"id": 0, "content": "<|end|>", "special": true}, {"id": 5, "content": "<note>", "special": false}],
        "normalizer": null,
        "pre_tokenizer": Pre::named("smollm").unwrap().pre_tokenizer(),
        "post_processor": null,
        "model": {"type": "BPE", "vocab": {"<|end|>": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]},
    })
}

fn written(
    tokenizer: &Json,
    settings: &Json,
    pre: Option<&str>,
    rows: usize,
) -> Result<HashMap<String, Value>, Error> {
    let config = json!({"eos_token_id": [0, 3], "bos_token_id": null});
    let source =
        Source { tokenizer, settings, config: &config, template: Some("{{ x }}"), pre, rows };
    Ok(write(&source)?.into_iter().collect())
}

fn problem(tokenizer: &Json) -> String {
    written(tokenizer, &Json::Null, None, 8).unwrap_err().to_string()
}

#[test]
fn rows_without_tokens_are_named_and_unused() {
    let keys = written(&byte_level(), &Json::Null, None, 7).unwrap();
    let tokens = keys["tokenizer.ggml.tokens"].as_strings().unwrap();
    assert_eq!(tokens, ["<|end|>", "a", "b", "ab", "[PAD4]", "<note>", "[PAD6]"]);
    let types = keys["tokenizer.ggml.token_type"].as_integers().unwrap();
    assert_eq!(types, [CONTROL, NORMAL, NORMAL, NORMAL, UNUSED, USER_DEFINED, UNUSED]);
    assert_eq!(keys["tokenizer.ggml.merges"].as_strings().unwrap(), ["a b"]);
    assert_eq!(keys["tokenizer.ggml.pre"].as_str(), Some("smollm"));
    assert_eq!(keys["tokenizer.ggml.eos_token_id"].as_u64(), Some(0));
    assert_eq!(keys.get("tokenizer.ggml.bos_token_id"), None);
    assert_eq!(keys["tokenizer.ggml.add_bos_token"].as_bool(), Some(false));
    assert_eq!(keys["tokenizer.chat_template"].as_str(), Some("{{ x }}"));
}

#[test]
fn more_tokens_than_rows_are_refused() {
    let narrow = written(&byte_level(), &Json::Null, None, 5).unwrap_err().to_string();
    assert!(narrow.contains("\"<note>\""), "{narrow}");
}

#[test]
fn a_source_that_is_named_is_believed_where_it_can_be() {
    let tokenizer = byte_level();
    let pre = |name: &str| written(&tokenizer, &Json::Null, Some(name), 7);
    // The same cut by another name, and one that is not known here.
    for name in ["smollm", "starcoder", "viking"] {
        assert_eq!(pre(name).unwrap()["tokenizer.ggml.pre"].as_str(), Some(name));
    }
    let other = pre("qwen2").unwrap_err().to_string();
    assert!(other.contains("\"smollm\"") && other.contains("\"qwen2\""), "{other}");
}

#[test]
fn what_a_text_is_put_between_is_written() {
    let mut tokenizer = byte_level();
    let special = json!({"SpecialToken": {"id": "<|end|>", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    tokenizer["post_processor"] = json!({"type": "TemplateProcessing", "single": [special, text]});
    let keys = written(&tokenizer, &json!({"eos_token": {"content": "ab"}}), None, 7).unwrap();
    assert_eq!(keys["tokenizer.ggml.bos_token_id"].as_u64(), Some(0));
    assert_eq!(keys["tokenizer.ggml.eos_token_id"].as_u64(), Some(3));
    assert_eq!(keys["tokenizer.ggml.add_bos_token"].as_bool(), Some(true));
    assert_eq!(keys["tokenizer.ggml.add_eos_token"].as_bool(), Some(false));
    tokenizer["post_processor"]["single"] = json!([special, special, text]);
    assert!(problem(&tokenizer).contains("post_processor"));
    tokenizer["post_processor"] = json!({"type": "RobertaProcessing"});
    assert!(problem(&tokenizer).contains("RobertaProcessing"));
    tokenizer["post_processor"]["cls"] = json!(["a", 1]);
    tokenizer["post_processor"]["sep"] = json!(["<|end|>", 0]);
    let keys = written(&tokenizer, &Json::Null, None, 8).unwrap();
    for (name, id) in [("bos_token_id", 1), ("eos_token_id", 0)] {
        assert_eq!(keys[&key(name)].as_u64(), Some(id), "{name}");
    }
    assert_eq!(keys["tokenizer.ggml.add_eos_token"].as_bool(), Some(true));
}

#[test]
fn what_llama_cpp_would_be_wrong_about_is_refused() {
    let with = |path: &str, value: Json| {
        let mut tokenizer = byte_level();
        *tokenizer.pointer_mut(path).unwrap() = value;
        problem(&tokenizer)
    };
    assert!(with("/model/type", json!("WordLevel")).contains("none of BPE, WordPiece and Unigram"));
    assert!(with("/model/type", json!("Unigram")).contains("pre_tokenizer"));
    assert!(with("/normalizer", json!({"type": "Lowercase"})).contains("Lowercase"));
    assert!(with("/pre_tokenizer", json!({"type": "Whitespace"})).contains("pre_tokenizer"));
    assert!(with("/model/merges", json!([["a"]])).contains("merges"));
    assert!(with("/model/vocab/a", json!(2)).contains("two tokens have the number 2"));
    assert!(with("/model/vocab/a", json!(-1)).contains("\"a\""));
    let spaced = json!([{"id": 0, "content": "<|end|>", "special": true, "rstrip": true}]);
    assert!(with("/added_tokens", spaced).contains("\"<|end|>\""));
    let mut pieces = byte_level();
    pieces["model"]["byte_fallback"] = json!(true);
    assert!(problem(&pieces).contains("SentencePiece"));
    pieces["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    pieces["pre_tokenizer"] = Json::Null;
    assert!(problem(&pieces).contains("<0x00>"));
}
