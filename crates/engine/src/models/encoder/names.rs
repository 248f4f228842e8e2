//! The names of a family's parameters and files.

use super::head::Head;
use crate::nn::Activation;

/// Names of a family's parameters and files, as Hugging Face transformers has them.
#[derive(Debug)]
pub struct Names {
    /// `model_type` of its configurations.
    pub model_type: &'static str,
    /// What transformers' names of its models begin with.
    pub class: &'static str,
    /// What transformers calls its tokenizer.
    pub tokenizer: &'static str,
    /// What the names of parameters begin with in models with a head.
    pub prefix: &'static str,
    /// The table of words.
    pub words: &'static str,
    /// The table of positions.
    pub positions: &'static str,
    /// The table of token types.
    pub types: &'static str,
    /// The norm of the embeddings, without `.weight` and `.bias`.
    pub norm: &'static str,
    /// What the names of a layer's parameters begin with, in front of its number; empty where layers have no numbers.
    pub stack: &'static str,
    /// A layer's parts.
    pub layer: LayerNames,
    /// The classifier of whole texts.
    pub classes: ClassesNames,
    /// The head of masked language models.
    pub language: LanguageNames,
    /// The linear layer for the start and the end of an answer.
    pub span: &'static str,
    /// Beginnings of the names of each head's parameters.
    pub heads: HeadNames,
    /// Beginnings of the names, without the prefix, of buffers and of heads that have no counterpart here.
    pub unused: &'static [&'static str],
}

/// Names of a layer's parts, behind its number and without `.weight` and `.bias`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNames {
    /// The queries' projection.
    pub query: &'static str,
    /// The keys' projection.
    pub key: &'static str,
    /// The values' projection.
    pub value: &'static str,
    /// The projection of what was attended to.
    pub attended: &'static str,
    /// The norm behind attention.
    pub attention_norm: &'static str,
    /// The first linear layer of the feed-forward network.
    pub widen: &'static str,
    /// Its second.
    pub narrow: &'static str,
    /// The norm behind it.
    pub output_norm: &'static str,
}

/// The two linear layers of the classifier, and what lies between.
#[derive(Clone, Copy, Debug)]
pub struct ClassesNames {
    /// The first layer.
    pub dense: &'static str,
    /// What follows it.
    pub activation: Activation,
    /// The second layer.
    pub classifier: &'static str,
    /// Whether there is dropout in front of both.
    pub drop_first: bool,
}

/// The transform in front of the decoder of a masked language model, and the decoder.
#[derive(Clone, Copy, Debug)]
pub struct LanguageNames {
    /// The transform's linear layer.
    pub dense: &'static str,
    /// Its norm.
    pub norm: &'static str,
    /// The bias of a decoder whose weight is the table of words.
    pub bias: &'static str,
    /// A decoder with a weight of its own, without `.weight`.
    pub decoder: &'static str,
    /// The bias of that.
    pub decoder_bias: &'static str,
}

/// Beginnings of the names of the parameters of heads.
#[derive(Clone, Copy, Debug)]
pub struct HeadNames {
    /// Of [`Head::Classes`].
    pub classes: &'static [&'static str],
    /// Of [`Head::Tokens`].
    pub tokens: &'static [&'static str],
    /// Of [`Head::Span`].
    pub span: &'static [&'static str],
    /// Of [`Head::MaskedLanguage`].
    pub language: &'static [&'static str],
}

impl HeadNames {
    /// Those of one head.
    pub fn of(&self, head: Head) -> &'static [&'static str] {
        match head {
            Head::Classes(_) => self.classes,
            Head::Tokens(_) => self.tokens,
            Head::Span => self.span,
            Head::MaskedLanguage => self.language,
            Head::Embedding => &[],
        }
    }

    /// Those of all heads.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.classes, self.tokens, self.span, self.language].into_iter().flatten().copied()
    }
}
