//! How a text becomes tokens: a Hugging Face `tokenizer.json`, and the files beside it.

mod bounds;
mod class;
mod files;
mod one_by_one;
mod pieces;
mod places;
mod vocab;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use tokenizers::{AddedToken, EncodeInput};

use super::trim::each_in_template;
use super::{Text, Texts, Tokens};
use crate::DataError;
use crate::disk::{DiskError, read_text, write_atomically};
use crate::guard;

pub use files::TokenizerFiles;
pub use one_by_one::{EncodedText, TextEncoder, TextPiece};
pub use pieces::WordTokens;
pub use places::{Placed, Placing, Stream};

/// Texts that are encoded together: their encodings are much larger than their tokens.
pub const TOGETHER: usize = 1024;
/// Its name in a model's folder.
const FILE: &str = "tokenizer.json";

/// A tokenizer, and the file it came from.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
    path: String,
    files: TokenizerFiles,
    /// What was encoded before: each arm of a run reads the same texts. Clones share it.
    encoded: Arc<Mutex<Vec<Encoded>>>,
}

/// Texts, if there still are any, and what they became.
struct Encoded {
    texts: Weak<Vec<Text>>,
    max_length: usize,
    tokens: Arc<Tokens>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Alike are those of the same file, wherever it lies.
impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

/// What a tokenizer is saved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedAs {
    /// Most tokens of a text.
    pub max_length: usize,
    /// The class that transformers has for the model's tokenizers.
    pub class: &'static str,
    /// Whether the model reads which of two texts a token belongs to.
    pub types: bool,
}

impl Tokenizer {
    /// Loads the tokenizer of a model's folder: `tokenizer.json`, or else BERT's `vocab.txt`, and what the files beside
    /// it say, as transformers does.
    ///
    /// # Errors
    /// [`DataError`] when there is none, or a file makes no sense.
    pub fn load(folder: &Path) -> Result<Self, DataError> {
        let files = TokenizerFiles::load(folder)?;
        let path = folder.join(FILE);
        if path.exists() {
            let json = read_text(&path, bounds::MOST_BYTES)?;
            return Self::with_files(&path.display().to_string(), json, files);
        }
        let vocabulary = folder.join(files::VOCAB_TXT);
        if vocabulary.exists() {
            let json = vocab::word_piece(folder, &files)?;
            return Self::with_files(&vocabulary.display().to_string(), json, files);
        }
        let other = ["vocab.json", "sentencepiece.bpe.model", "spiece.model"]
            .into_iter()
            .find(|name| folder.join(name).exists());
        let found = other.map_or("no such file".to_owned(), |name| {
            format!("no such file; there is {name} alone, which is not read")
        });
        Err(DataError::File {
            path: path.display().to_string(),
            problem: format!(
                "{found}: make one with transformers, \
                 AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            ),
        })
    }

    /// A tokenizer from the text of its file alone.
    ///
    /// # Errors
    /// [`DataError::File`] when it makes no sense.
    pub fn parse(path: &str, json: String) -> Result<Self, DataError> {
        Self::with_files(path, json, TokenizerFiles::default())
    }

    /// A tokenizer from the text of its file, and the files beside it.
    ///
    /// # Errors
    /// [`DataError::File`] when it makes no sense, two tokens have one number, or texts would get numbers that are no
    /// token's.
    pub(super) fn with_files(
        path: &str,
        json: String,
        files: TokenizerFiles,
    ) -> Result<Self, DataError> {
        let bad = |problem: String| DataError::File {
            path: path.to_owned(),
            problem: format!("it is no tokenizer that can be used: {problem}"),
        };
        let mut document: Value =
            serde_json::from_str(&json).map_err(|error| bad(error.to_string()))?;
        bounds::check(&document).map_err(bad)?;
        let json = if class::obey(&files, &mut document) { document.to_string() } else { json };
        let read = || -> tokenizers::Result<tokenizers::Tokenizer> {
            let mut inner: tokenizers::Tokenizer = json.parse()?;
            // Padding is the batch's affair, and truncation is asked for when texts are encoded.
            inner.with_padding(None);
            inner.with_truncation(None)?;
            Ok(inner)
        };
        let inner = guard::catch(read).map_err(bad)?.map_err(|error| bad(error.to_string()))?;
        check_numbers(&inner, &mut document).map_err(bad)?;
        Ok(Self { inner, json, path: path.to_owned(), files, encoded: Arc::default() })
    }

    /// The same tokenizer's files with another one's text of `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(super) fn with_json(&self, json: String) -> Result<Self, DataError> {
        Self::with_files("the trimmed tokenizer", json, self.files.clone())
    }

    /// Whether it makes capitals small, by its own normaliser.
    pub fn lower_cases(&self) -> bool {
        use tokenizers::NormalizerWrapper as Normaliser;
        fn lowers(normaliser: &Normaliser) -> bool {
            match normaliser {
                Normaliser::BertNormalizer(bert) => bert.lowercase,
                Normaliser::Lowercase(_) => true,
                Normaliser::Sequence(all) => all.as_ref().iter().any(lowers),
                _ => false,
            }
        }
        self.inner.get_normalizer().is_some_and(lowers)
    }

    /// The files beside `tokenizer.json`.
    pub fn files(&self) -> &TokenizerFiles {
        &self.files
    }

    /// The token that stands for one to be guessed, if there is one.
    pub fn mask(&self) -> Option<i32> {
        let known = self.files.token("mask_token").into_iter().chain(["[MASK]", "<mask>"]);
        known.filter_map(|token| self.inner.token_to_id(token)).next().map(|id| id as i32)
    }

    /// The numbers of all tokens that are not special, rising.
    pub fn ordinary(&self) -> Vec<i32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let all = self.inner.get_vocab(true).into_values();
        let mut ordinary: Vec<i32> = all.filter(|id| !special(id)).map(|id| id as i32).collect();
        ordinary.sort_unstable();
        ordinary
    }

    /// The text of these tokens, special ones included, without blanks at its ends.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it has no such token.
    pub fn decode(&self, tokens: &[i32]) -> Result<String, DataError> {
        let ids: Vec<u32> = tokens.iter().map(|&token| token as u32).collect();
        Ok(self.text_of(&ids, true)?.trim().to_owned())
    }

    /// Saves it into a model's folder, the same bytes as it was loaded from unless its files asked for something else,
    /// with the files beside it.
    ///
    /// # Errors
    /// [`DiskError`] naming the file.
    pub fn save(&self, folder: &Path, saved: &SavedAs) -> Result<(), DiskError> {
        let document: Value = serde_json::from_str(&self.json).expect("it was read before");
        let path = folder.join(FILE);
        if std::fs::read(&path).is_ok_and(|known| known != self.json.as_bytes()) {
            files::remove_vocabularies(folder)?;
        }
        write_atomically(&path, self.json.as_bytes())?;
        self.files.save(folder, self, &document, saved)
    }

    /// The tokens that were added to the model's own, as special ones are, by number.
    pub(super) fn added(&self) -> Vec<(u32, AddedToken)> {
        let added = self.inner.get_added_tokens_decoder().into_iter();
        let mut added: Vec<(u32, AddedToken)> = added.collect();
        added.sort_unstable_by_key(|(id, _)| *id);
        added
    }

    /// A checksum (CRC-32) of its file.
    pub fn digest(&self) -> u32 {
        crc32fast::hash(self.json.as_bytes())
    }

    /// The text of its file.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// All tokens with their numbers, in the order of these.
    pub(super) fn vocabulary(&self) -> Vec<(u32, String)> {
        let all = self.inner.get_vocab(true).into_iter();
        let mut all: Vec<(u32, String)> = all.map(|(token, id)| (id, token)).collect();
        all.sort_unstable();
        all
    }

    /// The number of a token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token was added to the model's own, as special ones are.
    pub(super) fn is_added(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    /// Checks that a model with a vocabulary of this size knows every token.
    ///
    /// # Errors
    /// [`DataError::File`], naming the first token that it does not know.
    pub fn check(&self, vocab_size: usize) -> Result<(), DataError> {
        let vocabulary = self.inner.get_vocab(true);
        let beyond = vocabulary.iter().filter(|(_, id)| **id as usize >= vocab_size);
        match beyond.min_by_key(|(_, id)| **id) {
            Some((token, id)) => Err(DataError::File {
                path: self.path.clone(),
                problem: format!(
                    "it is not the model's: its token `{token}` has number {id}, and the model knows \
                     {vocab_size} tokens"
                ),
            }),
            None => Ok(()),
        }
    }

    /// The tokens of these texts, special ones included, at most `max_length` of each; of a pair, the longer text
    /// is cut first. The same texts are encoded once.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when no text fits into so few tokens, a text cannot be encoded, or becomes no token.
    pub fn encode_all(&self, texts: &Texts, max_length: usize) -> Result<Arc<Tokens>, DataError> {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        encoded.retain(|one| one.texts.strong_count() > 0);
        let place = Arc::as_ptr(&texts.rows);
        let same = |one: &&Encoded| one.max_length == max_length && one.texts.as_ptr() == place;
        if let Some(known) = encoded.iter().find(same) {
            return Ok(known.tokens.clone());
        }
        let tokens = Arc::new(self.encode(texts, max_length)?);
        let texts = Arc::downgrade(&texts.rows);
        encoded.push(Encoded { texts, max_length, tokens: tokens.clone() });
        Ok(tokens)
    }

    /// As [`Self::encode_all`], which remembers.
    pub(super) fn encode(&self, texts: &Texts, max_length: usize) -> Result<Tokens, DataError> {
        self.check_room(texts.are_pairs(), max_length)?;
        let tokenizer = self.truncating(max_length)?;
        let input = |Text { first, second }: &Text| -> EncodeInput<'_> {
            match second {
                Some(second) => (first.clone(), second.clone()).into(),
                None => first.clone().into(),
            }
        };
        // A text that comes again, as the student alone's do, is encoded once.
        let mut firsts: HashMap<&Text, usize> = HashMap::new();
        let mut cuts = HashSet::new();
        let mut tokens = Tokens::default();
        for rows in texts.all().chunks(TOGETHER) {
            let begin = tokens.len();
            let is_new = |(row, text)| *firsts.entry(text).or_insert(row) == row;
            let known: Vec<bool> = (begin..).zip(rows).map(is_new).map(|new| !new).collect();
            let new = rows.iter().zip(&known).filter(|(_, known)| !**known);
            let inputs: Vec<EncodeInput<'_>> = new.map(|(text, _)| input(text)).collect();
            let encoded = guard::catch(|| tokenizer.encode_batch_fast(inputs, true));
            let mut encoded = self.understood(encoded)?.into_iter();
            for (text, known) in rows.iter().zip(known) {
                if known {
                    let first = firsts[text];
                    tokens.push_again(first, cuts.contains(&first));
                    continue;
                }
                let encoding = encoded.next().unwrap_or_default();
                if encoding.get_ids().is_empty() {
                    let (row, text) = (tokens.len(), &text.first);
                    let problem = format!("text {row}, {text:?}, becomes no token");
                    return Err(DataError::Unfit(problem));
                }
                let cut = !encoding.get_overflowing().is_empty();
                if cut {
                    cuts.insert(tokens.len());
                }
                tokens.push(encoding.get_ids(), encoding.get_type_ids(), cut);
            }
        }
        Ok(tokens)
    }
}

/// Checks that each number is one token's, and that what is put around a text has the vocabulary's numbers.
fn check_numbers(inner: &tokenizers::Tokenizer, document: &mut Value) -> Result<(), String> {
    let vocabulary = inner.get_vocab(true);
    let mut tokens: Vec<(u32, &str)> =
        vocabulary.iter().map(|(token, id)| (*id, &**token)).collect();
    tokens.sort_unstable();
    if let Some(two) = tokens.windows(2).find(|two| two[0].0 == two[1].0) {
        let (id, first, second) = (two[0].0, two[0].1, two[1].1);
        return Err(format!("its tokens `{first}` and `{second}` both have number {id}"));
    }
    let mut wrong = None;
    each_in_template(&mut document["post_processor"], &mut |token, id| {
        let known = inner.token_to_id(token);
        if wrong.is_none() && known.map(u64::from) != id.as_u64() {
            let theirs = known.map_or("no such token".to_owned(), |id| format!("number {id}"));
            wrong = Some(format!(
                "its post_processor gives `{token}` number {id}, and its vocabulary has {theirs}"
            ));
        }
    });
    wrong.map_or(Ok(()), Err)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Words of a tiny WordPiece vocabulary, as BERT's.
    const JSON: &str = r###"{
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
            {"id": 1, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
            {"id": 2, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
            {"id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
            {"id": 8, "content": "[MASK]", "single_word": false, "lstrip": true, "rstrip": false,
             "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "film": 5, "##s": 6, "bad": 7, "[MASK]": 8}}
    }"###;

    /// That of the tests.
    pub fn tiny() -> Tokenizer {
        Tokenizer::parse("t.json", JSON.to_owned()).unwrap()
    }

    fn texts(rows: &[(&str, Option<&str>)]) -> Texts {
        let text = |&(first, second): &(&str, Option<&str>)| Text {
            first: first.to_owned(),
            second: second.map(str::to_owned),
        };
        Texts::new(rows.iter().map(text).collect()).unwrap()
    }

    #[test]
    fn texts_become_tokens() {
        let tokenizer = Tokenizer::parse("t.json", JSON.to_owned()).unwrap();
        let single = texts(&[("Good films", None), ("weird", None), ("Good films", None)]);
        let tokens = tokenizer.encode_all(&single, 16).unwrap();
        assert_eq!(tokens.row(0), (&[2, 4, 5, 6, 3][..], &[0; 5][..]));
        assert_eq!(tokens.row(1), (&[2, 1, 3][..], &[0; 3][..]));
        assert_eq!(tokens.row(2), tokens.row(0));
        assert_eq!((tokens.len(), tokens.cut()), (3, 0));
        assert!(Arc::ptr_eq(&tokens, &tokenizer.encode_all(&single.clone(), 16).unwrap()));
        assert_eq!(tokenizer.encode_all(&single, 3).unwrap().length(0), 3);
        let pairs = texts(&[("good", Some("bad film"))]);
        let tokens = tokenizer.encode_all(&pairs, 16).unwrap();
        assert_eq!(tokens.row(0), (&[2, 4, 3, 7, 5, 3][..], &[0, 0, 0, 1, 1, 1][..]));
    }

    #[test]
    fn long_texts_lose_their_end() {
        let tokenizer = Tokenizer::parse("t.json", JSON.to_owned()).unwrap();
        let long = texts(&[("good good good good film", None), ("bad", None)]);
        let tokens = tokenizer.encode_all(&long, 4).unwrap();
        assert_eq!(tokens.row(0).0, [2, 4, 4, 3]);
        assert_eq!((tokens.length(1), tokens.cut()), (3, 1));
    }

    #[test]
    fn another_models_tokenizer_is_refused() {
        let tokenizer = Tokenizer::parse("t.json", JSON.to_owned()).unwrap();
        tokenizer.check(9).unwrap();
        let error = tokenizer.check(6).unwrap_err().to_string();
        assert!(
            error.contains("its token `##s` has number 6, and the model knows 6 tokens"),
            "{error}"
        );
        let error = Tokenizer::parse("t.json", "{}".to_owned()).unwrap_err().to_string();
        assert!(error.starts_with("t.json: it is no tokenizer that can be used"), "{error}");
    }
}
