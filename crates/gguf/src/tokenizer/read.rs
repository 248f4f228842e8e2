//! A GGUF's tokenizer as Hugging Face's files.

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::{
    BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, merges, padding, pre::Pre,
};
use crate::container::Gguf;
use crate::error::Error;
use crate::value::Value;

/// A GGUF's vocabulary.
struct Vocabulary<'a> {
    gguf: &'a Gguf,
    tokens: Vec<String>,
    types: Vec<i64>,
    bos: Option<usize>,
    eos: Option<usize>,
    unknown: Option<usize>,
    pad: Option<usize>,
}

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

fn flag(gguf: &Gguf, name: &str) -> Result<Option<bool>, Error> {
    gguf.get_as(&key(name), "true or false", Value::as_bool)
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &'a Gguf, rows: usize) -> Result<Self, Error> {
        let name = key("tokens");
        let wrong = |problem: String| Error::key(gguf.path(), &name, problem);
        let tokens = gguf.get_as(&name, "an array of texts", Value::as_strings)?;
        let mut tokens = tokens.ok_or_else(|| wrong("it must be there".into()))?.to_vec();
        if tokens.len() > rows {
            return Err(wrong(format!(
                "{} tokens, and the embedding has {rows} rows",
                tokens.len()
            )));
        }
        let types =
            gguf.get_as(&key("token_type"), "an array of whole numbers", Value::as_integers)?;
        let mut types = types.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
        if types.len() < tokens.len() {
            let problem = format!("{} types of {} tokens", types.len(), tokens.len());
            return Err(Error::key(gguf.path(), &key("token_type"), problem));
        }
        // Rows of the embedding that no token has are no part of the tokenizer.
        while let Some(last) = tokens.len().checked_sub(1)
            && types[last] == UNUSED
            && tokens[last] == padding(last)
        {
            tokens.pop();
        }
        types.truncate(tokens.len());
        let mut seen = HashSet::new();
        for (id, token) in tokens.iter_mut().enumerate() {
            if token.is_empty() {
                *token = format!("[EMPTY_{id}]");
            }
            if !seen.insert(&**token) {
                return Err(wrong(format!("{token:?} is there twice")));
            }
        }
        let id = |name: &str| {
            let id = gguf.get_as(&key(name), "a token's number", Value::as_u64)?;
            Ok(id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < tokens.len()))
        };
        let (bos, eos) = (id("bos_token_id")?, id("eos_token_id")?);
        let (unknown, pad) = (id("unknown_token_id")?, id("padding_token_id")?);
        Ok(Self { gguf, tokens, types, bos, eos, unknown, pad })
    }

    fn added(&self) -> Vec<Json> {
        let is_added = |kind: i64| matches!(kind, CONTROL | USER_DEFINED | UNKNOWN);
        let token = |(id, (text, &kind)): (usize, (&String, &i64))| {
            is_added(kind).then(|| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind != USER_DEFINED,
                })
            })
        };
        self.tokens.iter().zip(&self.types).enumerate().filter_map(token).collect()
    }

    fn ids(&self) -> Map<String, Json> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect()
    }

    /// Whether texts begin and end with tokens of their own: what the file says, or llama.cpp's own choice.
    fn ends(&self, adds_bos: bool) -> Result<(Option<usize>, Option<usize>), Error> {
        let begins = flag(self.gguf, "add_bos_token")?.unwrap_or(adds_bos);
        let ends = flag(self.gguf, "add_eos_token")?.unwrap_or(false);
        Ok((self.bos.filter(|_| begins), self.eos.filter(|_| ends)))
    }

    /// A step that puts tokens around a text, if there are any.
    fn template(&self, (bos, eos): (Option<usize>, Option<usize>)) -> Option<Json> {
        bos.or(eos)?;
        let special = |id: usize, side: usize| json!({"SpecialToken": {"id": self.tokens[id], "type_id": side}});
        let around = |name: &str, side: usize| {
            let text = json!({"Sequence": {"id": name, "type_id": side}});
            [bos.map(|id| special(id, side)), Some(text), eos.map(|id| special(id, side))]
                .into_iter()
                .flatten()
        };
        let tokens: Map<String, Json> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|id| {
                let text = &self.tokens[id];
                (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}))
            })
            .collect();
        Some(json!({
            "type": "TemplateProcessing",
            "single": around("A", 0).collect::<Vec<_>>(),
            "pair": around("A", 0).chain(around("B", 1)).collect::<Vec<_>>(),
            "special_tokens": tokens,
        }))
    }
}

/// `tokenizer.json`, `tokenizer_config.json` and, if there is one, `chat_template.jinja`: names and contents. `rows` are
/// those of the embedding.
///
/// # Errors
/// [`Error::Key`] naming what is missing or not understood.
pub(crate) fn read(gguf: &Gguf, rows: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let name = key("model");
    let model = gguf.get_as(&name, "text", Value::as_str)?.unwrap_or_default();
    let mut vocabulary = Vocabulary::read(gguf, rows)?;
    let (tokenizer, ends) = match model {
        "gpt2" => bytes(&vocabulary)?,
        "llama" => pieces(&mut vocabulary)?,
        other => {
            return Err(Error::key(
                gguf.path(),
                &name,
                format!("{other:?}; gpt2 and llama are understood"),
            ));
        }
    };
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("add_bos_token".into(), json!(ends.0.is_some()));
    config.insert("add_eos_token".into(), json!(ends.1.is_some()));
    if model == "llama" {
        config.insert(
            "add_prefix_space".into(),
            json!(flag(gguf, "add_space_prefix")?.unwrap_or(true)),
        );
    }
    for (name, id) in [
        ("bos_token", vocabulary.bos),
        ("eos_token", vocabulary.eos),
        ("unk_token", vocabulary.unknown),
        ("pad_token", vocabulary.pad),
    ] {
        config.extend(id.map(|id| (name.to_owned(), json!(vocabulary.tokens[id]))));
    }
    let template = gguf.get_as("tokenizer.chat_template", "text", Value::as_str)?;
    config.extend(template.map(|text| ("chat_template".to_owned(), json!(text))));
    let file = |name: &str, json: &Json| (name.to_owned(), format!("{json:#}\n").into_bytes());
    let mut files = vec![
        file("tokenizer.json", &tokenizer),
        file("tokenizer_config.json", &Json::Object(config)),
    ];
    files.extend(template.map(|text| ("chat_template.jinja".to_owned(), text.as_bytes().to_vec())));
    Ok(files)
}

type Made = (Json, (Option<usize>, Option<usize>));

/// Byte-level BPE.
fn bytes(vocabulary: &Vocabulary<'_>) -> Result<Made, Error> {
    let gguf = vocabulary.gguf;
    let name = key("pre");
    let named = gguf.get_as(&name, "text", Value::as_str)?.unwrap_or_default();
    let unknown = || Error::key(gguf.path(), &name, format!("{named:?}, which is not understood"));
    let pre = Pre::named(named).ok_or_else(unknown)?;
    let name = key("merges");
    let wrong = |problem: String| Error::key(gguf.path(), &name, problem);
    let merges = gguf.get_as(&name, "an array of texts", Value::as_strings)?;
    let merges = merges.ok_or_else(|| wrong("it must be there".into()))?;
    let known: HashSet<&str> = vocabulary.tokens.iter().map(|token| &**token).collect();
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        // The first letter may itself be a space.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let pair = merge[first..]
            .split_once(' ')
            .map(|(rest, right)| (&merge[..first + rest.len()], right));
        let (left, right) = pair.ok_or_else(|| wrong(format!("{merge:?} is no pair")))?;
        let whole = format!("{left}{right}");
        if let Some(token) = [left, right, &whole].into_iter().find(|token| !known.contains(token))
        {
            return Err(wrong(format!("{token:?} of the merge {merge:?} is no token")));
        }
        pairs.push(json!([left, right]));
    }
    let ends = vocabulary.ends(pre.adds_bos)?;
    let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    let post = match vocabulary.template(ends) {
        Some(template) => json!({"type": "Sequence", "processors": [level.clone(), template]}),
        None => level.clone(),
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": pre.normalizer(),
        "pre_tokenizer": pre.pre_tokenizer(),
        "post_processor": post,
        "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignores_merges, "vocab": vocabulary.ids(), "merges": pairs,
        },
    });
    Ok((tokenizer, ends))
}

/// SentencePiece's BPE: merges out of scores, unknown letters as bytes.
fn pieces(vocabulary: &mut Vocabulary<'_>) -> Result<Made, Error> {
    let gguf = vocabulary.gguf;
    let count = vocabulary.tokens.len();
    // llama.cpp's own where a file names none: SentencePiece's usual first three.
    let usual = |id: usize, kind: i64| (vocabulary.types.get(id) == Some(&kind)).then_some(id);
    let absent = |name: &str| gguf.get(&key(name)).is_none();
    let unknown = vocabulary.unknown.or_else(|| usual(0, UNKNOWN));
    let bos = vocabulary.bos.or_else(|| usual(1, CONTROL).filter(|_| absent("bos_token_id")));
    let eos = vocabulary.eos.or_else(|| usual(2, CONTROL).filter(|_| absent("eos_token_id")));
    (vocabulary.unknown, vocabulary.bos, vocabulary.eos) = (unknown, bos, eos);
    let name = key("scores");
    let wrong = |problem: &str| Error::key(gguf.path(), &name, problem);
    let scores = gguf.get_as(&name, "an array of numbers", Value::as_floats)?;
    let scores = scores.filter(|scores| scores.len() >= count);
    let scores = scores.ok_or_else(|| wrong("there must be one for each token"))?;
    let joined: Vec<Option<&str>> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.types)
        .map(|(text, &kind)| (kind == NORMAL).then_some(&**text))
        .collect();
    let merges = merges::from_scores(&joined, &scores);
    let mut different =
        scores.iter().zip(&joined).filter(|(_, token)| token.is_some()).map(|(score, _)| score);
    let first = different.next();
    if !merges.is_empty() && different.all(|score| Some(score) == first) {
        return Err(wrong("they are all alike, so that nothing tells what is joined first"));
    }
    let byte_count = vocabulary.types.iter().filter(|&&kind| kind == BYTE).count();
    let prefix = flag(gguf, "add_space_prefix")?.unwrap_or(true);
    let escape = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    let normalizer =
        if prefix { json!({"type": "Sequence", "normalizers": [prepend, escape]}) } else { escape };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let ends = vocabulary.ends(true)?;
    let pairs: Vec<Json> = merges.into_iter().map(|(left, right)| json!([left, right])).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": vocabulary.template(ends),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown.map(|id| &vocabulary.tokens[id]),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": byte_count > 0, "ignore_merges": false, "vocab": vocabulary.ids(), "merges": pairs,
        },
    });
    Ok((tokenizer, ends))
}
