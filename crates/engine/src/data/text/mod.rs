//! Texts, and how they become tokens and batches.

pub mod buckets;
pub mod masking;
mod questions;
mod read;
mod read_questions;
mod read_words;
mod tokenizer;
mod tokens;
mod trim;
mod windows;
mod words;

use std::fmt;
use std::sync::Arc;

pub use masking::Masking;
pub use questions::{Question, Questions};
pub use read::{Columns, Loaded, Pairs, load, read_pairs, read_texts, skipped_note};
pub use read_questions::load_questions;
pub use read_words::load_words;
pub use tokenizer::{SavedAs, Tokenizer, TokenizerFiles, WordTokens};
pub use tokens::Tokens;
pub use trim::{Trimmed, trim};
pub use windows::{TokenSpan, Windows};
pub use words::Words;

use super::DataError;

/// A text, or a pair of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text {
    /// The text.
    pub first: String,
    /// The second one of a pair.
    pub second: Option<String>,
}

impl From<&str> for Text {
    /// A single text.
    fn from(text: &str) -> Self {
        Self { first: text.to_owned(), second: None }
    }
}

impl Text {
    /// Adds it to a checksum.
    fn digest(&self, digest: &mut crc32fast::Hasher) {
        for part in [Some(&self.first), self.second.as_ref()].into_iter().flatten() {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.second {
            Some(second) => write!(f, "{} | {second}", self.first),
            None => f.write_str(&self.first),
        }
    }
}

/// The rows of these numbers, in their order.
fn rows_of<T: Clone>(rows: &[T], indices: &[u32]) -> Result<Vec<T>, DataError> {
    let row = |&index: &u32| {
        let count = rows.len();
        rows.get(index as usize)
            .cloned()
            .ok_or_else(|| DataError::Unfit(format!("there is no example {index} among {count}")))
    };
    indices.iter().map(row).collect()
}

/// Texts, at least one; all are single or all are pairs. Clones share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts {
    rows: Arc<Vec<Text>>,
}

impl Texts {
    /// These texts.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are none.
    pub fn new(rows: Vec<Text>) -> Result<Self, DataError> {
        if rows.is_empty() {
            return Err(DataError::Unfit("there is no text".to_owned()));
        }
        Ok(Self { rows: Arc::new(rows) })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Text] {
        &self.rows
    }

    /// Whether they are pairs.
    pub fn are_pairs(&self) -> bool {
        self.rows[0].second.is_some()
    }

    /// The first `count`, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        if count.max(1) >= self.len() {
            return self;
        }
        Self { rows: Arc::new(self.rows[..count.max(1)].to_vec()) }
    }

    /// The texts of these numbers, in their order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        Self::new(rows_of(&self.rows, indices)?)
    }

    /// These and others behind them.
    pub fn with(&self, more: &Self) -> Self {
        Self { rows: Arc::new(self.rows.iter().chain(more.rows.iter()).cloned().collect()) }
    }

    /// A checksum (CRC-32) of all texts.
    pub fn digest(&self) -> u32 {
        let mut digest = crc32fast::Hasher::new();
        self.rows.iter().for_each(|text| text.digest(&mut digest));
        digest.finalize()
    }

    /// A checksum (CRC-32) of each text.
    pub(super) fn row_digests(&self) -> Vec<u32> {
        let digest = |text: &Text| {
            let mut digest = crc32fast::Hasher::new();
            text.digest(&mut digest);
            digest.finalize()
        };
        self.rows.iter().map(digest).collect()
    }
}
