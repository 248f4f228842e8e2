//! What transformers' classes make of a tokenizer's files. They build it anew of the vocabulary and a few keys of
//! `tokenizer_config.json`, whatever else `tokenizer.json` says.

use serde_json::{Map, Value, json};

use super::files::TokenizerFiles;

/// The class that takes `tokenizer.json` as it is.
pub(super) const VERBATIM: &str = "PreTrainedTokenizerFast";
/// All names of it, without their ending.
const VERBATIM_NAMES: [&str; 2] = ["PreTrainedTokenizer", "TokenizersBackend"];
/// Classes that are BERT's, without their ending.
const BERT: [&str; 2] = ["BertTokenizer", "DistilBertTokenizer"];
/// The class of RoBERTa, without its ending.
const ROBERTA: &str = "RobertaTokenizer";

/// Keys of the configuration that BERT's classes obey, and those of the normaliser that they set.
const NORMALISER: [(&str, &str); 3] = [
    ("do_lower_case", "lowercase"),
    ("strip_accents", "strip_accents"),
    ("tokenize_chinese_chars", "handle_chinese_chars"),
];

fn is_verbatim(class: &str) -> bool {
    VERBATIM_NAMES.contains(&class.strip_suffix("Fast").unwrap_or(class))
}

/// Changes a tokenizer as transformers does where its configuration says otherwise; whether there was need to.
pub(super) fn obey(files: &TokenizerFiles, document: &mut Value) -> bool {
    if files.class().is_some_and(is_verbatim) {
        return false;
    }
    let mut changed = false;
    let mut set = |holder: &mut Value, key: &str, flag: Option<bool>| {
        if let Some(flag) = flag
            && holder[key] != json!(flag)
        {
            holder[key] = flag.into();
            changed = true;
        }
    };
    if document["normalizer"]["type"] == "BertNormalizer" {
        for (key, of_normaliser) in NORMALISER {
            set(&mut document["normalizer"], of_normaliser, files.flag(key));
        }
    }
    if document["pre_tokenizer"]["type"] == "ByteLevel" {
        set(&mut document["pre_tokenizer"], "add_prefix_space", files.flag("add_prefix_space"));
    }
    changed
}

/// Writes into a configuration what its class is to do, of a tokenizer.
pub(super) fn flags(document: &Value, config: &mut Map<String, Value>) {
    let normaliser = &document["normalizer"];
    if normaliser["type"] == "BertNormalizer" {
        for (key, of_normaliser) in NORMALISER {
            config.insert(key.to_owned(), normaliser[of_normaliser].clone());
        }
    }
    let bytes = &document["pre_tokenizer"];
    if bytes["type"] == "ByteLevel" {
        for key in ["add_prefix_space", "trim_offsets"] {
            config.insert(key.to_owned(), bytes[key].clone());
        }
    } else {
        config.remove("add_prefix_space");
    }
}

/// Whether a class makes of a configuration the very tokenizer of a document.
pub(super) fn makes(class: &str, document: &Value, config: &Map<String, Value>) -> bool {
    let class = class.strip_suffix("Fast").unwrap_or(class);
    if is_verbatim(class) {
        return true;
    }
    let token = |role: &str| {
        let token = config.get(role)?;
        token.as_str().or_else(|| token["content"].as_str())
    };
    let roles = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"].map(token);
    let [Some(unknown), Some(end), Some(_), Some(start), Some(_)] = roles else { return false };
    if BERT.contains(&class) {
        is_bert(document, unknown) && adds_as_bert(&document["post_processor"], start, end)
    } else if class == ROBERTA {
        is_roberta(document, config) && adds_as_roberta(document, start, end)
    } else {
        false
    }
}

fn is_bert(document: &Value, unknown: &str) -> bool {
    let Value::Object(model) = &document["model"] else { return false };
    let word_piece = model.get("type").is_none_or(|kind| kind == "WordPiece");
    word_piece
        && model.get("unk_token").is_some_and(|token| token == unknown)
        && model.get("continuing_subword_prefix").is_some_and(|prefix| prefix == "##")
        && model.get("max_input_chars_per_word").is_some_and(|most| *most == 100)
        && document["normalizer"]["type"] == "BertNormalizer"
        && document["normalizer"]["clean_text"] == true
        && document["pre_tokenizer"]["type"] == "BertPreTokenizer"
}

/// Whether a text becomes `[CLS] a [SEP]`, and a pair `[CLS] a [SEP] b [SEP]`, with b of the second type.
fn adds_as_bert(post_processor: &Value, start: &str, end: &str) -> bool {
    if post_processor["type"] == "BertProcessing" {
        return post_processor["cls"][0] == start && post_processor["sep"][0] == end;
    }
    let special = |token: &str, of: u32| json!({"SpecialToken": {"id": token, "type_id": of}});
    let text = |which: &str, of: u32| json!({"Sequence": {"id": which, "type_id": of}});
    let single = vec![special(start, 0), text("A", 0), special(end, 0)];
    let pair = [&single[..], &[text("B", 1), special(end, 1)]].concat();
    post_processor["type"] == "TemplateProcessing"
        && post_processor["single"] == json!(single)
        && post_processor["pair"] == json!(pair)
}

fn is_roberta(document: &Value, config: &Map<String, Value>) -> bool {
    let Value::Object(model) = &document["model"] else { return false };
    let empty = |key: &str| {
        model.get(key).is_none_or(|value| value.is_null() || *value == "" || *value == false)
    };
    let nothing = [
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "fuse_unk",
        "byte_fallback",
        "ignore_merges",
    ];
    let bytes = &document["pre_tokenizer"];
    model.contains_key("merges")
        && nothing.into_iter().all(empty)
        && document["normalizer"].is_null()
        && bytes["type"] == "ByteLevel"
        && bytes.get("use_regex").is_none_or(|cut| *cut == true)
        && config.get("add_prefix_space") == Some(&bytes["add_prefix_space"])
}

fn adds_as_roberta(document: &Value, start: &str, end: &str) -> bool {
    let post_processor = &document["post_processor"];
    post_processor["type"] == "RobertaProcessing"
        && post_processor["cls"][0] == start
        && post_processor["sep"][0] == end
}
