//! Texts, and how they become tokens and batches.

pub mod buckets;
mod chat_template;
mod choices;
mod corpus;
mod documents;
mod loss_mask;
pub mod masking;
mod packing;
mod questions;
mod read;
mod read_documents;
mod read_questions;
mod read_words;
mod rows;
mod tokenizer;
mod tokens;
mod trim;
mod windows;
mod words;

use std::fmt;

pub use chat_template::ChatTemplate;
pub use choices::{ChoiceQuestion, read_choices};
pub use corpus::{Corpus, PackedDocuments};
pub use documents::{Chat, Document, Documents, LossOn, Message, Role};
pub use loss_mask::{DocumentEncoder, DocumentRow, DocumentTokens, ShownPiece};
pub use masking::Masking;
pub use packing::{PackedRow, Packing, Piece};
pub use questions::{Question, Questions};
pub use read::{Columns, Loaded, Pairs, load, read_pairs, read_texts, skipped_note};
pub use read_documents::{LoadedDocuments, read_documents};
pub use read_questions::load_questions;
pub use read_words::load_words;
use rows::digest_parts;
pub use rows::{Row, Rows};
pub use tokenizer::{
    EncodedText, Placed, Placing, SavedAs, Stream, TOGETHER, TextEncoder, TextPiece, Tokenizer,
    TokenizerFiles, WordTokens,
};
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

impl Row for Text {
    const NOUN: &'static str = "text";

    fn digest(&self, digest: &mut crc32fast::Hasher) {
        digest_parts(
            [Some(&self.first), self.second.as_ref()].into_iter().flatten().map(|part| &**part),
            digest,
        );
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

/// Texts; all are single or all are pairs.
pub type Texts = Rows<Text>;

impl Texts {
    /// Whether they are pairs.
    pub fn are_pairs(&self) -> bool {
        self.rows[0].second.is_some()
    }
}
