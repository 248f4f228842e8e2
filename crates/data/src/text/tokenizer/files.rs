//! What a model's folder says of its tokenizer beside `tokenizer.json`, as transformers reads and writes it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::class::{self, VERBATIM};
use super::{SavedAs, Tokenizer};
use crate::DataError;
use crate::disk::{DiskError, disk_error, read_text, write_atomically};

/// How texts are cut, special tokens, and what its class does.
pub(super) const CONFIG: &str = "tokenizer_config.json";
/// Which tokens are special, and as what.
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// The numbers of tokens beside the model's own.
const ADDED_TOKENS: &str = "added_tokens.json";
/// The vocabulary of WordPiece, a token a line.
pub(super) const VOCAB_TXT: &str = "vocab.txt";
/// The vocabulary of BPE.
const VOCAB_JSON: &str = "vocab.json";
/// The merges of BPE.
const MERGES: &str = "merges.txt";
/// Vocabularies of SentencePiece, which are not written.
const SENTENCE_PIECE: [&str; 2] = ["sentencepiece.bpe.model", "spiece.model"];
/// How messages become a text.
pub(super) const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// Its key in the configuration.
const OF_CONFIG: &str = "chat_template";
/// Its name where a configuration has several.
const DEFAULT: &str = "default";
/// The largest of these files that is read.
const MOST_BYTES: u64 = 64 << 20;

/// Its key for the most tokens of a text.
const MAX_LENGTH: &str = "model_max_length";
/// What that was called before.
const OLD_MAX_LENGTH: &str = "max_len";
/// Keys that say where files lay or which code there was, which holds for one machine or folder alone.
const OF_ELSEWHERE: [&str; 9] = [
    "name_or_path",
    "tokenizer_file",
    "vocab_file",
    "merges_file",
    "special_tokens_map_file",
    "auto_map",
    "is_local",
    "local_files_only",
    "_commit_hash",
];
/// What a special token can be, and the names that it has in the families' models.
pub(super) const ROLES: [(&str, &[&str]); 7] = [
    ("bos_token", &["<s>"]),
    ("eos_token", &["</s>"]),
    ("unk_token", &["[UNK]", "<unk>"]),
    ("sep_token", &["[SEP]", "</s>"]),
    ("pad_token", &["[PAD]", "<pad>"]),
    ("cls_token", &["[CLS]", "<s>"]),
    ("mask_token", &["[MASK]", "<mask>"]),
];

/// The files beside `tokenizer.json`; empty without them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerFiles {
    config: Map<String, Value>,
    special_tokens: Option<Map<String, Value>>,
    added_tokens: Option<Map<String, Value>>,
    /// The template of chats, where it is in a file of its own.
    chat_template: Option<String>,
    /// Whether there is a vocabulary in a file of its own.
    vocabulary: bool,
}

impl TokenizerFiles {
    /// Reads a folder's.
    ///
    /// # Errors
    /// [`DataError`] naming a file that cannot be read, or is no JSON object.
    pub fn load(folder: &Path) -> Result<Self, DataError> {
        let object = |name: &str| -> Result<Option<Map<String, Value>>, DataError> {
            let path = folder.join(name);
            if !path.exists() {
                return Ok(None);
            }
            let text = read_text(&path, MOST_BYTES)?;
            let read = serde_json::from_str(&text).map_err(|error| DataError::File {
                path: path.display().to_string(),
                problem: format!("it is no JSON object: {error}"),
            })?;
            Ok(Some(read))
        };
        let template = folder.join(CHAT_TEMPLATE);
        let chat_template = template.exists().then(|| read_text(&template, MOST_BYTES));
        Ok(Self {
            chat_template: chat_template.transpose()?,
            config: object(CONFIG)?.unwrap_or_default(),
            special_tokens: object(SPECIAL_TOKENS)?,
            added_tokens: object(ADDED_TOKENS)?,
            vocabulary: [VOCAB_TXT, VOCAB_JSON].iter().any(|name| folder.join(name).exists()),
        })
    }

    /// Most tokens of a text, if the files say so.
    pub fn max_length(&self) -> Option<usize> {
        // Where there is no bound, transformers writes 1e30.
        let most = self.config.get(MAX_LENGTH).or_else(|| self.config.get(OLD_MAX_LENGTH))?;
        most.as_u64()?.try_into().ok()
    }

    /// The template of chats and the name of the file that it is in: one of its own comes first, as for transformers. Of
    /// several in the configuration it is the one named `default`.
    pub fn chat_template(&self) -> Option<(&'static str, &str)> {
        if let Some(template) = &self.chat_template {
            return Some((CHAT_TEMPLATE, template));
        }
        let template = match self.config.get(OF_CONFIG)? {
            Value::Array(named) => {
                named.iter().find(|one| one["name"] == DEFAULT)?.get("template")?
            }
            Value::Object(named) => named.get(DEFAULT)?,
            template => template,
        };
        Some((CONFIG, template.as_str()?))
    }

    /// The special tokens by what they are special as, for templates.
    pub(in crate::text) fn roles(&self) -> impl Iterator<Item = (&'static str, &str)> {
        ROLES.iter().filter_map(|(role, _)| Some((*role, self.token(role)?)))
    }

    /// Whether what is too long loses its beginning.
    pub(super) fn truncates_left(&self) -> bool {
        self.config.get("truncation_side").and_then(Value::as_str) == Some("left")
    }

    /// A flag of the configuration.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key)?.as_bool()
    }

    /// The class of transformers that reads the tokenizer, without its ending.
    pub(super) fn class(&self) -> Option<&str> {
        let class = self.config.get("tokenizer_class")?.as_str()?;
        Some(class.strip_suffix("Fast").unwrap_or(class))
    }

    /// The token that is special as this.
    pub(super) fn token(&self, role: &str) -> Option<&str> {
        self.described(role).and_then(content)
    }

    /// As [`Self::token`], with its flags if they are there.
    pub(super) fn described(&self, role: &str) -> Option<&Value> {
        let maps = self.special_tokens.iter().chain([&self.config]);
        maps.filter_map(|map| map.get(role)).find(|token| content(token).is_some())
    }

    /// The tokens that were added, by `added_tokens.json`, in the order of their numbers.
    pub(super) fn added(&self) -> Vec<(u64, &str)> {
        let added = self.added_tokens.iter().flatten();
        let mut added: Vec<_> =
            added.filter_map(|(token, id)| Some((id.as_u64()?, &**token))).collect();
        added.sort_unstable();
        added
    }

    /// Whether a token is special by these files.
    pub(super) fn is_special(&self, token: &str) -> bool {
        let maps = || self.special_tokens.iter().chain([&self.config]);
        let lists = LISTS.iter().flat_map(|list| maps().filter_map(|map| map.get(*list)));
        ROLES.iter().any(|(role, _)| self.token(role) == Some(token))
            || lists.flat_map(list_of).any(|listed| content(listed) == Some(token))
    }

    /// All tokens that the files name.
    pub(in crate::text) fn named(&self) -> impl Iterator<Item = &str> {
        let roles = ROLES.iter().filter_map(|(role, _)| self.token(role));
        let maps = [Some(&self.config), self.special_tokens.as_ref()].into_iter().flatten();
        let lists = maps.flat_map(|map| LISTS.iter().filter_map(|list| map.get(*list)));
        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        roles
            .chain(lists.flat_map(list_of).filter_map(content))
            .chain(decoder.into_iter().flat_map(Map::values).filter_map(content))
            .chain(self.added_tokens.iter().flat_map(Map::keys).map(String::as_str))
    }

    /// Saves them for a tokenizer, perhaps another one than they were read with, beside its own file. Those of another
    /// tokenizer in that folder are replaced or go.
    ///
    /// # Errors
    /// [`DiskError`] naming the file.
    pub(super) fn save(
        &self,
        folder: &Path,
        tokenizer: &Tokenizer,
        document: &Value,
        saved: &SavedAs,
    ) -> Result<(), DiskError> {
        let write = |name: &str, value: &Map<String, Value>| {
            let text = serde_json::to_string_pretty(value).expect("a map is plain data");
            write_atomically(&folder.join(name), format!("{text}\n").as_bytes())
        };
        let known =
            |value: &Value| content(value).is_some_and(|token| tokenizer.id(token).is_some());
        write(CONFIG, &self.config_of(tokenizer, document, saved))?;
        match &self.special_tokens {
            Some(map) => write(SPECIAL_TOKENS, &with_known(map, &known))?,
            None => remove(folder, SPECIAL_TOKENS)?,
        }
        match &self.chat_template {
            Some(template) => write_atomically(&folder.join(CHAT_TEMPLATE), template.as_bytes())?,
            None => remove(folder, CHAT_TEMPLATE)?,
        }
        match &self.added_tokens {
            Some(map) => {
                let renumbered = |(token, _): (&String, &Value)| {
                    Some((token.clone(), tokenizer.id(token)?.into()))
                };
                write(ADDED_TOKENS, &map.iter().filter_map(renumbered).collect())?;
            }
            None => remove(folder, ADDED_TOKENS)?,
        }
        let vocabulary = self.vocabulary.then(|| vocabulary_files(&document["model"]));
        for (name, text) in vocabulary.flatten().unwrap_or_default() {
            write_atomically(&folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// `tokenizer_config.json` for a tokenizer.
    fn config_of(
        &self,
        tokenizer: &Tokenizer,
        document: &Value,
        saved: &SavedAs,
    ) -> Map<String, Value> {
        let known =
            |value: &Value| content(value).is_some_and(|token| tokenizer.id(token).is_some());
        let mut config = with_known(&self.config, &known);
        config.retain(|key, _| !OF_ELSEWHERE.contains(&&**key));
        config.remove(OLD_MAX_LENGTH);
        config.insert(MAX_LENGTH.to_owned(), saved.max_length.into());
        // Padding lies behind, as positions count from a text's first token.
        config.insert("padding_side".to_owned(), "right".into());
        let side = if self.truncates_left() { "left" } else { "right" };
        config.insert("truncation_side".to_owned(), side.into());
        for (role, names) in ROLES {
            let from_map = self.described(role).filter(|token| known(token)).cloned();
            let usual = || names.iter().find(|name| tokenizer.id(name).is_some());
            if let Some(token) = from_map.or_else(|| usual().map(|name| (*name).into())) {
                config.entry(role).or_insert(token);
            }
        }
        let added = tokenizer.added().into_iter().map(|(id, token)| {
            let token = json!({
                "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip,
                "rstrip": token.rstrip, "normalized": token.normalized, "special": token.special,
            });
            (id.to_string(), token)
        });
        config.insert("added_tokens_decoder".to_owned(), added.collect::<Map<_, _>>().into());
        // What a class does to a text is told to it, or it would do what it does by default.
        class::flags(document, &mut config);
        let class = config.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned);
        let class = class.unwrap_or_else(|| saved.class.to_owned());
        if class::makes(&class, document, &config) {
            config.insert("tokenizer_class".to_owned(), class.into());
        } else {
            config.insert("tokenizer_class".to_owned(), VERBATIM.into());
            let types = saved.types.then_some("token_type_ids");
            let inputs = ["input_ids"].into_iter().chain(types).chain(["attention_mask"]);
            config.insert("model_input_names".to_owned(), inputs.collect());
        }
        config
    }
}

/// Removes what a folder has of another tokenizer's vocabulary in files of its own.
///
/// # Errors
/// [`DiskError`] naming the file.
pub(super) fn remove_vocabularies(folder: &Path) -> Result<(), DiskError> {
    let names = [VOCAB_TXT, VOCAB_JSON, MERGES].into_iter().chain(SENTENCE_PIECE);
    names.into_iter().try_for_each(|name| remove(folder, name))
}

fn remove(folder: &Path, name: &str) -> Result<(), DiskError> {
    let path = folder.join(name);
    if path.exists() { fs::remove_file(&path).map_err(disk_error(&path)) } else { Ok(()) }
}

/// Keys of lists of special tokens.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The text of a token, which may be written with its flags.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// The tokens of a list, or by name.
fn list_of(list: &Value) -> Vec<&Value> {
    match list {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// The map without special tokens that are not known.
fn with_known(map: &Map<String, Value>, known: &dyn Fn(&Value) -> bool) -> Map<String, Value> {
    let mut map = map.clone();
    map.retain(|key, value| {
        let is_role = ROLES.iter().any(|(role, _)| role == key);
        !is_role || value.is_null() || known(value)
    });
    for list in LISTS {
        match map.get_mut(list) {
            Some(Value::Array(tokens)) => tokens.retain(|token| known(token)),
            Some(Value::Object(tokens)) => tokens.retain(|_, token| known(token)),
            _ => {}
        }
    }
    map
}

/// The vocabulary in files of its own, if the model has such and its numbers have no holes.
fn vocabulary_files(model: &Value) -> Option<Vec<(&'static str, String)>> {
    let vocab = model["vocab"].as_object()?;
    let mut tokens: Vec<(u64, &str)> =
        vocab.iter().map(|(token, id)| Some((id.as_u64()?, &**token))).collect::<Option<_>>()?;
    tokens.sort_unstable();
    let dense = (0..).zip(&tokens).all(|(place, (id, _))| place == *id);
    let lines = !tokens.iter().any(|(_, token)| token.contains(['\n', '\r']));
    match model["merges"].as_array() {
        Some(merges) => {
            let pair = |merge: &Value| match merge {
                Value::String(pair) => Some(pair.clone()),
                _ => Some(format!("{} {}", merge[0].as_str()?, merge[1].as_str()?)),
            };
            let merges: Vec<String> = merges.iter().map(pair).collect::<Option<_>>()?;
            let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
            Some(vec![(VOCAB_JSON, Value::from(vocab.clone()).to_string()), (MERGES, merges)])
        }
        None if dense && lines && model["max_input_chars_per_word"].is_u64() => {
            let lines: String = tokens.iter().map(|(_, token)| format!("{token}\n")).collect();
            Some(vec![(VOCAB_TXT, lines)])
        }
        None => None,
    }
}
