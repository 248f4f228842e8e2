//! What stands on an encoder: what it is for.

use super::Family;
use crate::recipe::Task;

/// What an encoder's hidden states are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Logits of so many classes for a whole text.
    Classes(usize),
    /// Logits of the whole vocabulary for masked tokens (Devlin et al. 2019).
    MaskedLanguage,
    /// One vector for a whole text.
    Embedding,
}

impl Head {
    /// What a task needs.
    pub fn of_task(task: Task, classes: usize) -> Self {
        match task {
            Task::Classification => Self::Classes(classes),
            Task::MaskedLm => Self::MaskedLanguage,
            Task::Embedding => Self::Embedding,
        }
    }

    /// What it is, in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes(_) => "a classifier",
            Self::MaskedLanguage => "a masked language model",
            Self::Embedding => "an embedding model",
        }
    }

    /// The name that transformers gives a family's model with this head: `architectures` of `config.json`.
    pub(super) fn architecture(self, family: Family) -> String {
        let suffix = match self {
            Self::Classes(_) => "ForSequenceClassification",
            Self::MaskedLanguage => "ForMaskedLM",
            Self::Embedding => "Model",
        };
        format!("{}{suffix}", family.class())
    }

    /// The head of such a model; a classifier of so many classes unless the name says otherwise.
    pub(super) fn of_architecture(name: &str, family: Family, classes: usize) -> Self {
        match name.strip_prefix(family.class()) {
            Some("ForMaskedLM" | "ForPreTraining") => Self::MaskedLanguage,
            Some("Model") => Self::Embedding,
            _ => Self::Classes(classes),
        }
    }

    /// Number of classes; 0 of a head that has none.
    pub fn classes(self) -> usize {
        match self {
            Self::Classes(classes) => classes,
            Self::MaskedLanguage | Self::Embedding => 0,
        }
    }
}
