//! Rows of texts of any kind: what lists of texts, words, questions and documents have in common.

use std::sync::Arc;

use crc32fast::Hasher;

use super::rows_of;
use crate::DataError;

/// A row of [`Rows`].
pub trait Row: Clone {
    /// What one is called in messages.
    const NOUN: &'static str;

    /// Adds it to a checksum.
    fn digest(&self, digest: &mut Hasher);

    /// What is wrong with such rows, if anything is.
    fn problem(rows: &[Self]) -> Option<String> {
        let _ = rows;
        None
    }
}

/// Rows, at least one. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows<T> {
    pub(super) rows: Arc<Vec<T>>,
}

impl<T: Row> Rows<T> {
    /// These rows.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are none, or one is not as it must be.
    pub fn new(rows: Vec<T>) -> Result<Self, DataError> {
        if rows.is_empty() {
            return Err(DataError::Unfit(format!("there is no {}", T::NOUN)));
        }
        match T::problem(&rows) {
            Some(problem) => Err(DataError::Unfit(problem)),
            None => Ok(Self { rows: Arc::new(rows) }),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All of them, in order.
    pub fn all(&self) -> &[T] {
        &self.rows
    }

    /// The first `count`, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        match count.max(1) < self.len() {
            true => Self { rows: Arc::new(self.rows[..count.max(1)].to_vec()) },
            false => self,
        }
    }

    /// The rows of these numbers, in their order.
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

    /// A checksum (CRC-32) of all rows.
    pub fn digest(&self) -> u32 {
        let mut digest = Hasher::new();
        self.rows.iter().for_each(|row| row.digest(&mut digest));
        digest.finalize()
    }

    /// A checksum (CRC-32) of each row.
    pub(crate) fn row_digests(&self) -> Vec<u32> {
        let digest = |row: &T| {
            let mut digest = Hasher::new();
            row.digest(&mut digest);
            digest.finalize()
        };
        self.rows.iter().map(digest).collect()
    }
}

/// Adds parts of a row to a checksum, each with an end.
pub(super) fn digest_parts<'a>(parts: impl IntoIterator<Item = &'a str>, digest: &mut Hasher) {
    for part in parts {
        digest.update(part.as_bytes());
        digest.update(&[0]);
    }
}
