//! What stands on an encoder: what it is for.

/// What an encoder's hidden states are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// So many numbers for a whole text: logits of classes, of labels, or values.
    Classes(usize),
    /// Logits of so many classes for each word of a text.
    Tokens(usize),
    /// Logits of each token of a text as the start, and as the end, of an answer.
    Span,
    /// Logits of the whole vocabulary for masked tokens (Devlin et al. 2019).
    MaskedLanguage,
    /// One vector for a whole text.
    Embedding,
}

impl Head {
    /// What it is, in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes(_) => "a classifier",
            Self::Tokens(_) => "a token classifier",
            Self::Span => "a model for question answering",
            Self::MaskedLanguage => "a masked language model",
            Self::Embedding => "an embedding model",
        }
    }

    /// How the name ends that transformers gives a family's model with this head: `architectures` of `config.json`.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Classes(_) => "ForSequenceClassification",
            Self::Tokens(_) => "ForTokenClassification",
            Self::Span => "ForQuestionAnswering",
            Self::MaskedLanguage => "ForMaskedLM",
            Self::Embedding => "Model",
        }
    }

    /// The head of a model whose name in transformers ends so.
    pub(super) fn of_suffix(suffix: &str, classes: usize) -> Self {
        match suffix {
            "ForMaskedLM" | "ForPreTraining" => Self::MaskedLanguage,
            "Model" => Self::Embedding,
            "ForTokenClassification" => Self::Tokens(classes),
            "ForQuestionAnswering" => Self::Span,
            _ => Self::Classes(classes),
        }
    }

    /// Number of classes; 0 of a head that has none.
    pub fn classes(self) -> usize {
        match self {
            Self::Classes(classes) | Self::Tokens(classes) => classes,
            Self::Span | Self::MaskedLanguage | Self::Embedding => 0,
        }
    }

    /// The same head for so many classes, where it has any.
    pub fn with_classes(self, classes: usize) -> Self {
        match self {
            Self::Classes(_) => Self::Classes(classes),
            Self::Tokens(_) => Self::Tokens(classes),
            other => other,
        }
    }

    /// Whether another head is of the same kind, whatever the number of its classes.
    pub fn is_like(self, other: Self) -> bool {
        self.with_classes(0) == other.with_classes(0)
    }
}
