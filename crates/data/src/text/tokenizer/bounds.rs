//! What a `tokenizer.json` may hold, checked before the tokenizers crate is given it: that one panics on damaged maps
//! of characters, or allocates what a file says.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value};

/// The largest file that is read. Those of vocabularies of 250,000 tokens have 35 MB.
pub(super) const MOST_BYTES: u64 = 256 << 20;
/// The most tokens beside the model's own.
const MOST_ADDED: usize = 100_000;
/// The longest token, in bytes: a vocabulary kept as a tree is as deep, and is freed by recursion.
const LONGEST_TOKEN: usize = 2048;
/// The longest pattern or replacement of a normaliser, in bytes.
const LONGEST_PATTERN: usize = 1 << 16;
/// How many times as long as it was a text may become by a normaliser's replacements.
const MOST_GROWTH: usize = 64;
/// The longest word that WordPiece may be asked to cut, in characters: its time grows by the square.
const LONGEST_WORD: u64 = 10_000;
/// The largest map of characters, in bytes. Those of NFKC have 320 kB.
const LARGEST_MAP: usize = 8 << 20;
/// The longest replacement in a map of characters, in bytes. The longest of NFKC has 33.
const LONGEST_REPLACEMENT: usize = 256;

/// Refuses a file that the tokenizers crate could not bear.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(document: &Value) -> Result<(), String> {
    let added = document["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    if added.len() > MOST_ADDED {
        return Err(format!("it adds {} tokens, and {MOST_ADDED} are the most", added.len()));
    }
    added.iter().filter_map(|token| token["content"].as_str()).try_for_each(check_token)?;
    check_model(&document["model"])?;
    let mut growth = 1;
    each_object(&document["normalizer"], &mut |object| check_normaliser(object, &mut growth))
}

fn check_token(token: &str) -> Result<(), String> {
    match token.len() {
        length if length > LONGEST_TOKEN => Err(format!(
            "a token has {length} bytes, and {LONGEST_TOKEN} are the most: `{}…`",
            token.chars().take(40).collect::<String>()
        )),
        _ => Ok(()),
    }
}

fn check_model(model: &Value) -> Result<(), String> {
    match &model["vocab"] {
        Value::Object(vocab) => vocab.keys().try_for_each(|token| check_token(token))?,
        Value::Array(pieces) => {
            pieces.iter().filter_map(|piece| piece[0].as_str()).try_for_each(check_token)?;
        }
        _ => {}
    }
    if let Some(most) = model["max_input_chars_per_word"].as_u64()
        && most > LONGEST_WORD
    {
        return Err(format!(
            "its max_input_chars_per_word is {most}, and {LONGEST_WORD} is the most"
        ));
    }
    match model["dropout"].as_f64() {
        Some(rate) if rate != 0.0 => Err(format!(
            "its model leaves out merges at random (dropout {rate}), so that a text has other tokens each time: set \
             model.dropout to null"
        )),
        _ => Ok(()),
    }
}

/// Calls `visit` with every object within a value.
fn each_object(
    value: &Value,
    visit: &mut impl FnMut(&Map<String, Value>) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::Object(object) => {
            visit(object)?;
            object.values().try_for_each(|value| each_object(value, visit))
        }
        Value::Array(values) => values.iter().try_for_each(|value| each_object(value, visit)),
        _ => Ok(()),
    }
}

/// Checks a normaliser, old files not saying of which type it is. `growth` is what those before it may make of a text.
fn check_normaliser(normaliser: &Map<String, Value>, growth: &mut usize) -> Result<(), String> {
    let text = |key: &str| normaliser.get(key).and_then(Value::as_str);
    for text in normaliser.iter().filter(|(key, _)| *key != "precompiled_charsmap") {
        let length = text.1.as_str().map_or(0, str::len);
        if length > LONGEST_PATTERN {
            return Err(format!(
                "its normaliser has a text of {length} bytes, and {LONGEST_PATTERN} are the most"
            ));
        }
    }
    if let Some(content) = text("content") {
        let pattern = normaliser.get("pattern").and_then(|pattern| pattern["String"].as_str());
        let factor = match pattern.map(str::len) {
            Some(length) if length > 0 => content.len().div_ceil(length),
            // A regular expression may match nothing, between any two characters.
            _ => content.len() + 1,
        };
        *growth = growth.saturating_mul(factor.max(1));
        if *growth > MOST_GROWTH {
            return Err(format!(
                "its normaliser's replacements make a text {growth} times as long, and {MOST_GROWTH} times is the most"
            ));
        }
    }
    match text("precompiled_charsmap") {
        Some(map) => check_map(map)
            .map_err(|problem| format!("its normaliser's precompiled_charsmap {problem}")),
        None => Ok(()),
    }
}

/// Checks a map of characters: a length in bytes, a double array (a tree whose nodes lie in one array) of that length,
/// and the replacements, each with a zero behind it. Every place that a text can lead to must be there.
fn check_map(base64: &str) -> Result<(), String> {
    if base64.len() > LARGEST_MAP {
        return Err(format!("has {} bytes, and {LARGEST_MAP} are the most", base64.len()));
    }
    let bytes = BASE64_STANDARD.decode(base64).map_err(|error| format!("is no base64: {error}"))?;
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Err(format!("has {} bytes, fewer than its length takes", bytes.len()));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || !length.is_multiple_of(4) || length > rest.len() {
        return Err(format!("says that {length} bytes follow, and {} do", rest.len()));
    }
    let (tree, replacements) = rest.split_at(length);
    let tree: Vec<usize> = tree
        .chunks_exact(4)
        .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]) as usize)
        .collect();
    let replacements =
        str::from_utf8(replacements).map_err(|_| "holds text that is not UTF-8".to_owned())?;
    walk(&tree, replacements)
}

/// Follows all branches of a double array as `spm_precompiled` does.
fn walk(tree: &[usize], replacements: &str) -> Result<(), String> {
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let label = |unit: usize| unit & ((1 << 31) | 0xff);
    let has_leaf = |unit: usize| (unit >> 8) & 1 == 1;
    let value = |unit: usize| unit & ((1 << 31) - 1);
    let mut seen = vec![false; tree.len()];
    let mut open = vec![offset(tree[0])];
    while let Some(base) = open.pop() {
        // The children of a node, and its leaf, lie in one block of 256.
        if base | 0xff >= tree.len() {
            return Err(format!("leads to node {}, and has {}", base | 0xff, tree.len()));
        }
        if std::mem::replace(&mut seen[base], true) {
            continue;
        }
        for byte in 1..=0xff {
            let unit = tree[base ^ byte];
            if label(unit) != byte {
                continue;
            }
            let child = (base ^ byte) ^ offset(unit);
            if has_leaf(unit) {
                let Some(&leaf) = tree.get(child) else {
                    return Err(format!("leads to node {child}, and has {}", tree.len()));
                };
                check_replacement(replacements, value(leaf))?;
            }
            open.push(child);
        }
    }
    Ok(())
}

fn check_replacement(replacements: &str, at: usize) -> Result<(), String> {
    let Some(text) = replacements.get(at..) else {
        return Err(format!(
            "leads to replacement {at}, which is none of its {} bytes",
            replacements.len()
        ));
    };
    let length = text.find('\0').unwrap_or(text.len());
    if length > LONGEST_REPLACEMENT {
        return Err(format!(
            "holds a replacement of {length} bytes, and {LONGEST_REPLACEMENT} are the most"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A map of one block, in which `a` becomes what is at `value` of the replacements.
    fn map(value: u32, replacements: &[u8]) -> String {
        let mut tree = [0_u32; 256];
        // The root's children lie in its own block, and so does what `a` has behind it.
        tree[0] = 0;
        tree[0x61] = 0x61 | 1 << 8 | (0x61 ^ 0x80) << 10;
        tree[0x80] = value | 1 << 31;
        let length = (4 * tree.len() as u32).to_le_bytes();
        let tree = tree.iter().flat_map(|unit| unit.to_le_bytes());
        let bytes: Vec<u8> = length.into_iter().chain(tree).chain(replacements.to_vec()).collect();
        BASE64_STANDARD.encode(bytes)
    }

    fn told(normaliser: &Value) -> String {
        check(&json!({ "normalizer": normaliser })).unwrap_err()
    }

    #[test]
    fn a_map_is_followed_to_every_end() {
        let normaliser = |map: String| json!({"type": "Precompiled", "precompiled_charsmap": map});
        let sound = normaliser(map(2, b"x\0long\0"));
        check(&json!({ "normalizer": sound })).unwrap();
        let read: tokenizers::NormalizerWrapper = serde_json::from_value(sound).unwrap();
        let mut text = "banal".into();
        tokenizers::Normalizer::normalize(&read, &mut text).unwrap();
        assert_eq!(text.get(), "blongnlongl");
        for (map, problem) in [
            (map(8, b"x\0long\0"), "leads to replacement 8, which is none of its 7 bytes"),
            (map(1, "\u{e9}\0".as_bytes()), "leads to replacement 1, which is none"),
            (map(0, b"\xff\0"), "is not UTF-8"),
            (map(0, &[b'x'; 300]), "holds a replacement of 300 bytes, and 256 are the most"),
            ("AQ==".to_owned(), "has 1 bytes, fewer than its length takes"),
            ("AAAAAA==".to_owned(), "says that 0 bytes follow, and 0 do"),
            ("/P///2FhYWE=".to_owned(), "says that 4294967292 bytes follow, and 4 do"),
            ("BAAAAP///394AA==".to_owned(), "leads to node"),
            ("!".to_owned(), "is no base64"),
            ("A".repeat(LARGEST_MAP + 4), "and 8388608 are the most"),
        ] {
            let message = told(&json!({"normalizers": [normaliser(map)]}));
            assert!(message.starts_with("its normaliser's precompiled_charsmap "), "{message}");
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn replacements_may_not_swell_a_text() {
        let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let doubled = replace(json!({"String": "a"}), "aa");
        check(&json!({ "normalizer": {"normalizers": vec![doubled.clone(); 6]} })).unwrap();
        let message = told(&json!({ "normalizers": vec![doubled; 60] }));
        assert!(
            message.contains("make a text 128 times as long, and 64 times is the most"),
            "{message}"
        );
        let message = told(&replace(json!({"Regex": "x*"}), &"b".repeat(100)));
        assert!(message.contains("101 times as long"), "{message}");
        let message = told(&json!({"type": "Prepend", "prepend": "b".repeat(1 << 17)}));
        assert!(message.contains("a text of 131072 bytes, and 65536 are the most"), "{message}");
    }

    #[test]
    fn models_and_added_tokens_are_bounded() {
        let long = "b".repeat(3000);
        for (document, problem) in [
            (json!({"model": {"max_input_chars_per_word": 1_u64 << 50}}), "and 10000 is the most"),
            (json!({"model": {"dropout": 0.1}}), "set model.dropout to null"),
            (json!({"model": {"vocab": {&*long: 0}}}), "a token has 3000 bytes"),
            (json!({"model": {"vocab": [[long, 0.0]]}}), "a token has 3000 bytes"),
            (json!({"added_tokens": [{"content": long}]}), "a token has 3000 bytes"),
            (json!({"added_tokens": vec![0; 100_001]}), "it adds 100001 tokens, and 100000 are"),
        ] {
            let message = check(&document).unwrap_err();
            assert!(message.contains(problem), "{message}");
        }
    }
}
