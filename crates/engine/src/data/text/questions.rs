//! Questions, each with a context that may hold its answer.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::data::DataError;

/// A question and its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its name in its file, or its number.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text in which the answer is looked for; questions of one paragraph share it.
    pub context: Arc<str>,
}

impl Question {
    /// A part of its context by places of characters; what is beyond its end is left out.
    pub fn part(&self, characters: Range<usize>) -> &str {
        let byte = |place: usize| {
            self.context.char_indices().nth(place).map_or(self.context.len(), |(byte, _)| byte)
        };
        let start = byte(characters.start);
        &self.context[start..byte(characters.end).max(start)]
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.question, self.context)
    }
}

/// Questions, at least one. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    pub(super) rows: Arc<Vec<Question>>,
}

impl Questions {
    /// These questions.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are none.
    pub fn new(rows: Vec<Question>) -> Result<Self, DataError> {
        if rows.is_empty() {
            return Err(DataError::Unfit("there is no question".to_owned()));
        }
        Ok(Self { rows: Arc::new(rows) })
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Question] {
        &self.rows
    }

    /// The first `count`, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        match count.max(1) < self.len() {
            true => Self { rows: Arc::new(self.rows[..count.max(1)].to_vec()) },
            false => self,
        }
    }

    /// The questions of these numbers, in their order.
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

    /// A checksum (CRC-32) of each question with its context.
    pub(crate) fn row_digests(&self) -> Vec<u32> {
        let digest = |row: &Question| {
            let mut digest = crc32fast::Hasher::new();
            for part in [&*row.id, &*row.question, &*row.context] {
                digest.update(part.as_bytes());
                digest.update(&[0]);
            }
            digest.finalize()
        };
        self.rows.iter().map(digest).collect()
    }
}
