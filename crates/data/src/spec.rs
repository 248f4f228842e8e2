//! What is asked of data: where they come from, which columns and classes, what numbers go through.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::text::LossOn;
use super::{Colour, Normalisation};

/// What data are asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Data {
    /// Where they come from.
    #[serde(flatten)]
    pub source: Source,
    /// Only so many training examples, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Only so many test examples, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// What the best parameters are chosen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// A file of texts without labels, of which the distilled student learns the teacher's answers too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<PathBuf>,
    /// What features go through before a model sees them; absent where examples are texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalise>,
}

impl Default for Data {
    fn default() -> Self {
        Self::of(Source::Embedded)
    }
}

impl Data {
    /// All of a source, numbers brought to mean 0 and standard deviation 1.
    pub fn of(source: Source) -> Self {
        let numbers = !matches!(source, Source::Text { .. });
        Self {
            source,
            train_limit: None,
            test_limit: None,
            validation: None,
            unlabelled: None,
            normalise: numbers.then_some(Normalise::Standardise),
        }
    }

    /// The same with only so many training examples.
    #[must_use]
    pub fn train_limit(self, train_limit: usize) -> Self {
        Self { train_limit: Some(train_limit), ..self }
    }

    /// The same with only so many test examples.
    #[must_use]
    pub fn test_limit(self, test_limit: usize) -> Self {
        Self { test_limit: Some(test_limit), ..self }
    }

    /// The same with data to choose the best parameters on.
    #[must_use]
    pub fn validation(self, validation: Validation) -> Self {
        Self { validation: Some(validation), ..self }
    }

    /// The same with texts without labels.
    #[must_use]
    pub fn unlabelled(self, unlabelled: impl Into<PathBuf>) -> Self {
        Self { unlabelled: Some(unlabelled.into()), ..self }
    }

    /// The same with numbers that go through something else.
    #[must_use]
    pub fn normalise(self, normalise: Normalise) -> Self {
        Self { normalise: Some(normalise), ..self }
    }
}

/// Where data come from. Paths are absolute once read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// The Fashion-MNIST subset that is part of the program.
    Embedded,
    /// Four IDX files, raw or gzipped, as MNIST's.
    Idx {
        /// Training images, u8 [rows, height, width].
        train_images: PathBuf,
        /// Training labels, u8 \[rows].
        train_labels: PathBuf,
        /// Test images.
        test_images: PathBuf,
        /// Test labels.
        test_labels: PathBuf,
    },
    /// Two CSV or TSV files of numbers with a column of labels.
    Csv {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// The columns of the labels, one or several; the one named `label` unless given.
        #[serde(serialize_with = "one_or_all")]
        label: Vec<Column>,
        /// Whether the first line names the columns; it does unless given.
        header: bool,
    },
    /// Two safetensors files.
    Safetensors {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// The tensor of the features; `features` unless given.
        features: String,
        /// The tensor of the labels; `labels` unless given.
        labels: String,
    },
    /// Two files of labelled texts with named columns, see [`super::files::Format`].
    Text {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// The column of the text, or both columns of a pair of texts; `text` unless given. Of words, that of their
        /// lists, `tokens`; of questions, theirs and that of their contexts, `question` and `context`.
        text: Vec<String>,
        /// The columns of the labels, one or several; `label` unless given, of words `ner_tags`, of questions `answers`.
        #[serde(serialize_with = "one_or_all")]
        label: Vec<String>,
        /// Whether rows without a text are passed over, rather than refused.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        skip_empty: bool,
        /// Of chats and completions, what is learnt: the completions unless given.
        #[serde(skip_serializing_if = "LossOn::is_usual")]
        loss_on: LossOn,
        /// Whether short documents share a row of tokens, each seeing itself alone; they do unless given.
        #[serde(skip_serializing_if = "is_true")]
        pack: bool,
    },
    /// Two folders that hold a folder of images for each class.
    Images {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// What they are brought to.
        #[serde(flatten)]
        conversion: Conversion,
    },
}

fn is_true(flag: &bool) -> bool {
    *flag
}

/// One column by itself, several as a list.
fn one_or_all<T: Serialize, S: Serializer>(columns: &[T], to: S) -> Result<S::Ok, S::Error> {
    match columns {
        [one] => one.serialize(to),
        all => all.serialize(to),
    }
}

impl Source {
    /// The same with this in the place of the test data, where those are one file or folder.
    pub(crate) fn tested_on(&self, path: &Path) -> Self {
        let mut other = self.clone();
        match &mut other {
            Self::Csv { test, .. }
            | Self::Safetensors { test, .. }
            | Self::Text { test, .. }
            | Self::Images { test, .. } => path.clone_into(test),
            Self::Embedded | Self::Idx { .. } => {}
        }
        other
    }
}

/// Data to choose on: neither learnt from nor tested on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Validation {
    /// This share of the training data, drawn by chance, the same examples whatever the seed.
    Share(f64),
    /// A file or folder like that of the training data.
    Path(PathBuf),
}

/// A column of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// Its number, from 0.
    Index(usize),
    /// Its name in the header.
    Name(String),
}

/// A class of the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ClassRef {
    /// Its place among the classes, from 0.
    Number(usize),
    /// Its name.
    Name(String),
}

/// What features go through before a model sees them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Less the mean, over the standard deviation, both measured on the training data.
    #[default]
    Standardise,
    /// Nothing, but that pixels become numbers from 0 to 1.
    None,
    /// Less a mean, over a standard deviation, as given.
    #[serde(untagged)]
    Given(Normalisation),
}

/// What pictures are brought to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Conversion {
    /// Height and width; the first picture's unless given, and then all must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// 1 (grey) or 3 (red, green, blue); the first picture's unless given, and then none may have colours if that is
    /// grey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// What lies behind transparent pictures; white unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Colour>,
}
