//! A WordPiece tokenizer of old folders: `vocab.txt`, a token a line, and what its configuration says.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::files::{ROLES, TokenizerFiles, VOCAB_TXT};
use crate::DataError;
use crate::disk::read_text;

/// The largest vocabulary that is read.
const MOST_BYTES: u64 = 64 << 20;

/// The `tokenizer.json` that transformers makes of a folder with `vocab.txt`.
///
/// # Errors
/// [`DataError`] when it cannot be read, or what it lacks.
pub(super) fn word_piece(folder: &Path, files: &TokenizerFiles) -> Result<String, DataError> {
    let path = folder.join(VOCAB_TXT);
    let bad = |problem: String| DataError::File { path: path.display().to_string(), problem };
    if files.flag("do_basic_tokenize") == Some(false) {
        return Err(bad("with do_basic_tokenize = false it is not read: make a tokenizer.json with transformers, \
                        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            .to_owned()));
    }
    let text = read_text(&path, MOST_BYTES)?;
    let mut vocab = Map::new();
    // As Python reads lines. What stands behind the last one is none.
    let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
    for (id, line) in lines.map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate() {
        vocab.insert(line.to_owned(), id.into());
    }
    let token = |role: &str| {
        let (_, usual) = ROLES.iter().find(|(known, _)| *known == role).expect("a known role");
        files.token(role).unwrap_or(usual[0]).to_owned()
    };
    let [unknown, end, padding, start, mask] =
        ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"].map(token);
    for needed in [&unknown, &end, &padding, &start] {
        if !vocab.contains_key(needed) {
            return Err(bad(format!("it has no token `{needed}`")));
        }
    }
    let special = [&unknown, &end, &padding, &start, &mask];
    let mut added: Vec<(Value, &str, bool)> = special
        .into_iter()
        .filter_map(|token| Some((vocab.get(token)?.clone(), &**token, true)))
        .collect();
    for (id, token) in files.added() {
        if special.iter().all(|known| *known != token) {
            added.push((id.into(), token, files.is_special(token)));
        }
    }
    added.sort_by_key(|(id, ..)| id.as_u64());
    let added: Vec<Value> = added
        .into_iter()
        .map(|(id, token, special)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": !special, "special": special})
        })
        .collect();
    let flag = |key: &str| files.flag(key).unwrap_or(true);
    let piece = |token: &str, of: u32| json!({"SpecialToken": {"id": token, "type_id": of}});
    let sequence = |which: &str, of: u32| json!({"Sequence": {"id": which, "type_id": of}});
    let single = vec![piece(&start, 0), sequence("A", 0), piece(&end, 0)];
    let pair = [&single[..], &[sequence("B", 1), piece(&end, 1)]].concat();
    let named = |token: &str| json!({"id": token, "ids": [vocab[token]], "tokens": [token]});
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars"),
            "strip_accents": files.flag("strip_accents"),
            "lowercase": flag("do_lower_case"),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": {&*start: named(&start), &*end: named(&end)},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    });
    Ok(document.to_string())
}
