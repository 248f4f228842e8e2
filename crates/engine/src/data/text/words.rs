//! Texts that are split into words already.

use std::sync::Arc;

use crate::data::DataError;

/// Texts as lists of words, at least one text, each of at least one word. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    pub(super) rows: Arc<Vec<Vec<String>>>,
}

impl Words {
    /// The words of each text.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there is no text, or one has no words.
    pub fn new(rows: Vec<Vec<String>>) -> Result<Self, DataError> {
        if rows.is_empty() {
            return Err(DataError::Unfit("there is no text".to_owned()));
        }
        if let Some(row) = rows.iter().position(Vec::is_empty) {
            return Err(DataError::Unfit(format!("text {row} has no words")));
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

    /// The words of all texts, in order.
    pub fn all(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The words of one text.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn row(&self, row: usize) -> &[String] {
        &self.rows[row]
    }

    /// The first `count` texts, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        match count.max(1) < self.len() {
            true => Self { rows: Arc::new(self.rows[..count.max(1)].to_vec()) },
            false => self,
        }
    }

    /// The texts of these numbers, in their order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        Self::new(super::rows_of(&self.rows, indices)?)
    }

    /// These and others behind them.
    pub fn with(&self, more: &Self) -> Self {
        Self { rows: Arc::new(self.rows.iter().chain(more.rows.iter()).cloned().collect()) }
    }

    /// A checksum (CRC-32) of each text.
    pub(crate) fn row_digests(&self) -> Vec<u32> {
        let digest = |words: &Vec<String>| {
            let mut digest = crc32fast::Hasher::new();
            for word in words {
                digest.update(word.as_bytes());
                digest.update(&[0]);
            }
            digest.finalize()
        };
        self.rows.iter().map(digest).collect()
    }
}
