//! Examples without labels.

use super::spec::Normalise;
use super::text::{Corpus, PackedDocuments, Question, Questions, Text, Texts, Windows, Words};
use super::{DataError, Features, Normalisation, Numbers};

/// Examples without labels, at least one. Clones share what they hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Examples {
    /// Images, or rows of a table.
    Numbers(Numbers),
    /// Texts, or pairs of them.
    Texts(Texts),
    /// Texts that are split into words.
    Words(Words),
    /// Questions, each with a context.
    Questions(Questions),
    /// Questions as tokens, in windows of their contexts.
    Windows(Windows),
    /// Documents whose next tokens are guessed.
    Documents(Corpus),
    /// The same in rows of tokens.
    Packed(PackedDocuments),
}

impl From<Words> for Examples {
    fn from(words: Words) -> Self {
        Self::Words(words)
    }
}

impl From<Questions> for Examples {
    fn from(questions: Questions) -> Self {
        Self::Questions(questions)
    }
}

impl From<Windows> for Examples {
    fn from(windows: Windows) -> Self {
        Self::Windows(windows)
    }
}

impl From<Corpus> for Examples {
    fn from(corpus: Corpus) -> Self {
        Self::Documents(corpus)
    }
}

impl From<PackedDocuments> for Examples {
    fn from(rows: PackedDocuments) -> Self {
        Self::Packed(rows)
    }
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
            Self::Words(words) => words.len(),
            Self::Questions(questions) => questions.len(),
            Self::Windows(windows) => windows.len(),
            Self::Documents(corpus) => corpus.documents().len(),
            Self::Packed(rows) => rows.len(),
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
            _ => None,
        }
    }

    /// The texts, if they are.
    pub fn texts(&self) -> Option<&Texts> {
        match self {
            Self::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// The words of texts, if they are such.
    pub fn words(&self) -> Option<&Words> {
        match self {
            Self::Words(words) => Some(words),
            _ => None,
        }
    }

    /// The questions, if they are.
    pub fn questions(&self) -> Option<&Questions> {
        match self {
            Self::Questions(questions) => Some(questions),
            _ => None,
        }
    }

    /// The windows of questions, if they are such.
    pub fn windows(&self) -> Option<&Windows> {
        match self {
            Self::Windows(windows) => Some(windows),
            _ => None,
        }
    }

    /// What an example is, in words: for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::Numbers(numbers) => format!("{:?}", numbers.shape()),
            Self::Texts(texts) if texts.are_pairs() => "a pair of texts".to_owned(),
            Self::Texts(_) => "a text".to_owned(),
            Self::Words(_) => "a list of words".to_owned(),
            Self::Questions(_) => "a question with its context".to_owned(),
            Self::Windows(_) => "a window of a question's context".to_owned(),
            Self::Documents(_) => "a document".to_owned(),
            Self::Packed(_) => "a row of tokens".to_owned(),
        }
    }

    /// About how many bytes they take in memory; a context that questions share counts with each.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Numbers(numbers) => match numbers.features() {
                Features::U8(pixels) => pixels.len(),
                Features::F32(values) => size_of_val(&**values),
            },
            Self::Texts(texts) => {
                let second = |text: &Text| text.second.as_ref().map_or(0, String::len);
                let letters = texts.all().iter().map(|text| text.first.len() + second(text));
                letters.sum::<usize>() + size_of_val(texts.all())
            }
            Self::Words(words) => {
                let row = |row: &Vec<String>| {
                    row.iter().map(String::len).sum::<usize>() + size_of_val(&**row)
                };
                words.all().iter().map(row).sum::<usize>() + size_of_val(words.all())
            }
            Self::Questions(questions) => {
                let row = |row: &Question| row.id.len() + row.question.len() + row.context.len();
                questions.all().iter().map(row).sum::<usize>() + size_of_val(questions.all())
            }
            // An id, a type and two places in the context for each token.
            Self::Windows(windows) => 16 * windows.tokens().ids().len(),
            Self::Documents(corpus) => corpus.documents().bytes(),
            Self::Packed(rows) => rows.bytes(),
        }
    }

    /// The first `count` examples, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        match self {
            Self::Numbers(numbers) => Self::Numbers(numbers.take(count)),
            Self::Texts(texts) => Self::Texts(texts.take(count)),
            Self::Words(words) => Self::Words(words.take(count)),
            Self::Questions(questions) => Self::Questions(questions.take(count)),
            Self::Windows(windows) => Self::Windows(windows.take(count)),
            Self::Documents(corpus) => Self::Documents(corpus.take(count)),
            Self::Packed(rows) => Self::Packed(rows.take(count)),
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
            Self::Words(words) => Self::Words(words.select(indices)?),
            Self::Questions(questions) => Self::Questions(questions.select(indices)?),
            Self::Windows(windows) => Self::Windows(windows.select(indices)?),
            Self::Documents(corpus) => Self::Documents(corpus.select(indices)?),
            Self::Packed(rows) => Self::Packed(rows.select(indices)?),
        })
    }

    /// A checksum (CRC-32) of each example.
    pub fn row_digests(&self) -> Vec<u32> {
        match self {
            Self::Numbers(numbers) => numbers.row_digests(),
            Self::Texts(texts) => texts.row_digests(),
            Self::Words(words) => words.row_digests(),
            Self::Questions(questions) => questions.row_digests(),
            Self::Windows(windows) => windows.row_digests(),
            Self::Documents(corpus) => corpus.documents().row_digests(),
            Self::Packed(rows) => rows.row_digests(),
        }
    }

    /// Adds all examples to a checksum.
    pub(super) fn digest(&self, digest: &mut crc32fast::Hasher) {
        match self {
            Self::Numbers(numbers) => numbers.digest(digest),
            Self::Texts(texts) => digest.update(&texts.digest().to_le_bytes()),
            Self::Words(_)
            | Self::Questions(_)
            | Self::Windows(_)
            | Self::Documents(_)
            | Self::Packed(_) => {
                digest.update(bytemuck::cast_slice(&self.row_digests()));
            }
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
