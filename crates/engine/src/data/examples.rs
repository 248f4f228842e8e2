//! Examples without labels.

use super::text::Texts;
use super::{DataError, Normalisation, Numbers};
use crate::recipe::Normalise;

/// Examples without labels, at least one. Clones share what they hold.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Examples {
    /// Images, or rows of a table.
    Numbers(Numbers),
    /// Texts, or pairs of them.
    Texts(Texts),
}

impl From<Numbers> for Examples {
    fn from(numbers: Numbers) -> Self {
        Self::Numbers(numbers)
    }
}

impl From<Texts> for Examples {
    fn from(texts: Texts) -> Self {
        Self::Texts(texts)
    }
}

impl Examples {
    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, if they are.
    pub fn numbers(&self) -> Option<&Numbers> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            Self::Texts(_) => None,
        }
    }

    /// The texts, if they are.
    pub fn texts(&self) -> Option<&Texts> {
        match self {
            Self::Texts(texts) => Some(texts),
            Self::Numbers(_) => None,
        }
    }

    /// What an example is, in words: for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::Numbers(numbers) => format!("{:?}", numbers.shape()),
            Self::Texts(texts) if texts.are_pairs() => "a pair of texts".to_owned(),
            Self::Texts(_) => "a text".to_owned(),
        }
    }

    /// The first `count` examples, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        match self {
            Self::Numbers(numbers) => Self::Numbers(numbers.take(count)),
            Self::Texts(texts) => Self::Texts(texts.take(count)),
        }
    }

    /// The examples of these numbers, in their order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        Ok(match self {
            Self::Numbers(numbers) => Self::Numbers(numbers.select(indices)?),
            Self::Texts(texts) => Self::Texts(texts.select(indices)?),
        })
    }

    /// A checksum (CRC-32) of each example.
    pub fn row_digests(&self) -> Vec<u32> {
        match self {
            Self::Numbers(numbers) => numbers.row_digests(),
            Self::Texts(texts) => texts.row_digests(),
        }
    }

    /// Adds all examples to a checksum.
    pub(super) fn digest(&self, digest: &mut crc32fast::Hasher) {
        match self {
            Self::Numbers(numbers) => numbers.digest(digest),
            Self::Texts(texts) => digest.update(&texts.digest().to_le_bytes()),
        }
    }

    /// Checks that examples can be moved by up to `pixels`.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when they are not images.
    pub fn check_shift(&self, pixels: u32) -> Result<(), DataError> {
        if pixels == 0 || self.numbers().is_some_and(|numbers| numbers.shape().len() == 3) {
            return Ok(());
        }
        Err(DataError::Unfit(format!(
            "`shift` moves images [C, H, W], and an example here is {}: leave `shift` out",
            self.kind()
        )))
    }

    /// The normalisation that a recipe asks for; the one that changes nothing where it asks for none.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a given one is of another length than the examples need.
    pub fn normalisation_for(
        &self,
        normalise: Option<&Normalise>,
    ) -> Result<Normalisation, DataError> {
        match (self, normalise) {
            (Self::Numbers(numbers), Some(normalise)) => numbers.normalisation_for(normalise),
            _ => Ok(Normalisation::identity()),
        }
    }
}
