//! Labels: what is known of examples, of every kind that a task can ask for.

mod classes;
mod numbers;
mod spans;
mod tags;

use std::collections::{HashMap, HashSet};

use super::DataError;
use super::classes::listed;

pub use classes::ClassLabels;
pub use numbers::NumberLabels;
pub use spans::{Answer, SpanLabels, Spans};
pub use tags::TagLabels;

/// The kind of labels that a task asks of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// None: examples are read alone.
    None,
    /// None: each next token of a document is what is learnt.
    Documents,
    /// A class for each example; see [`ClassLabels`].
    Class,
    /// A class for each example of a file that has labels; of one that has none, a `.txt` file or a table without
    /// their column, the texts alone. Training data may lack labels where test data have some, as a teacher's answers
    /// are enough to learn from.
    ClassIfAny,
    /// One number or several for each example; see [`NumberLabels`].
    Numbers,
    /// Any number of several classes for each example, as flags; see [`NumberLabels::flags`].
    MultiLabel,
    /// A tag for each word; see [`TagLabels`].
    Tags,
    /// Answers to each question, as parts of its context; see [`SpanLabels`].
    Spans,
}

/// The labels of examples, in their order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Labels {
    /// A class for each.
    Classes(ClassLabels),
    /// Numbers for each: to be met, or flags of several classes.
    Numbers(NumberLabels),
    /// A tag for each word of each.
    Tags(TagLabels),
    /// Answers to each question.
    Spans(SpanLabels),
}

impl From<ClassLabels> for Labels {
    fn from(labels: ClassLabels) -> Self {
        Self::Classes(labels)
    }
}

impl From<NumberLabels> for Labels {
    fn from(labels: NumberLabels) -> Self {
        Self::Numbers(labels)
    }
}

impl From<TagLabels> for Labels {
    fn from(labels: TagLabels) -> Self {
        Self::Tags(labels)
    }
}

impl From<SpanLabels> for Labels {
    fn from(labels: SpanLabels) -> Self {
        Self::Spans(labels)
    }
}

impl Labels {
    /// Number of examples that have labels.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.ids().len(),
            Self::Numbers(labels) => labels.len(),
            Self::Tags(labels) => labels.len(),
            Self::Spans(labels) => labels.len(),
        }
    }

    /// Whether no example has any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes, if there is one for each example.
    pub fn classes(&self) -> Option<&ClassLabels> {
        match self {
            Self::Classes(labels) => Some(labels),
            _ => None,
        }
    }

    /// The numbers or flags, if they are such.
    pub fn numbers(&self) -> Option<&NumberLabels> {
        match self {
            Self::Numbers(labels) => Some(labels),
            _ => None,
        }
    }

    /// The tags, if there is one for each word.
    pub fn tags(&self) -> Option<&TagLabels> {
        match self {
            Self::Tags(labels) => Some(labels),
            _ => None,
        }
    }

    /// The answers to questions, if they are such.
    pub fn spans(&self) -> Option<&SpanLabels> {
        match self {
            Self::Spans(labels) => Some(labels),
            _ => None,
        }
    }

    /// Names of a model's outputs for these labels: of the classes, numbers or tags, in order; `start` and `end` of spans.
    pub fn outputs(&self) -> &[String] {
        match self {
            Self::Classes(labels) => labels.class_names(),
            Self::Numbers(labels) => labels.names(),
            Self::Tags(labels) => labels.names(),
            Self::Spans(labels) => labels.outputs(),
        }
    }

    /// What they are, in words: for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Classes(_) => "classes",
            Self::Numbers(labels) if labels.are_flags() => "several labels each",
            Self::Numbers(_) => "numbers",
            Self::Tags(_) => "tags of words",
            Self::Spans(_) => "answers to questions",
        }
    }

    /// What one of [`Self::outputs`] is, in a word: for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Classes(_) => "class",
            Self::Numbers(labels) if labels.are_flags() => "label",
            Self::Numbers(_) => "number",
            Self::Tags(_) => "tag",
            Self::Spans(_) => "end of an answer",
        }
    }

    /// Those of the first `count` examples.
    pub fn take(self, count: usize) -> Self {
        match self {
            Self::Classes(labels) => labels.take(count).into(),
            Self::Numbers(labels) => labels.take(count).into(),
            Self::Tags(labels) => labels.take(count).into(),
            Self::Spans(labels) => labels.take(count).into(),
        }
    }

    /// Those of the examples of these numbers, in their order.
    ///
    /// # Panics
    /// When a number is out of range.
    pub fn select(&self, rows: &[u32]) -> Self {
        match self {
            Self::Classes(labels) => labels.select(rows).into(),
            Self::Numbers(labels) => labels.select(rows).into(),
            Self::Tags(labels) => labels.select(rows).into(),
            Self::Spans(labels) => labels.select(rows).into(),
        }
    }

    /// The same labels with these outputs instead of their own, by name. Flags that an example lacks are 0; numbers
    /// have to be the same ones, in whatever order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when one of their own is not among them.
    pub fn with_outputs(self, names: &[String]) -> Result<Self, DataError> {
        let own = self.outputs();
        if own == names {
            return Ok(self);
        }
        let noun = self.noun();
        let missing = |name: &str, of: &[String]| {
            DataError::Unfit(format!("there is no {noun} `{name}` among {}", listed(of)))
        };
        let known: HashMap<&String, u32> = names.iter().zip(0..).collect();
        let place = |name: &String| known.get(name).copied().ok_or_else(|| missing(name, names));
        let places: Vec<u32> = own.iter().map(place).collect::<Result<_, _>>()?;
        Ok(match self {
            Self::Classes(labels) => labels.renamed(&places, names).into(),
            Self::Numbers(labels) => {
                let held: HashSet<&String> = labels.names().iter().collect();
                let strange = names.iter().find(|name| !held.contains(name));
                if let (Some(name), false) = (strange, labels.are_flags()) {
                    return Err(missing(name, labels.names()));
                }
                labels.renamed(&places, names).into()
            }
            Self::Tags(labels) => labels.renamed(&places, names).into(),
            Self::Spans(labels) => labels.into(),
        })
    }

    /// Adds them to a checksum.
    pub(super) fn digest(&self, digest: &mut crc32fast::Hasher) {
        match self {
            Self::Classes(labels) => digest.update(bytemuck::cast_slice(labels.ids())),
            Self::Numbers(labels) => digest.update(bytemuck::cast_slice(labels.values())),
            Self::Tags(labels) => labels.digest(digest),
            Self::Spans(labels) => labels.digest(digest),
        }
    }
}
