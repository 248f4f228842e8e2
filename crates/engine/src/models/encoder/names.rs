//! What the families call their parameters.

use super::Head;
use crate::nn::Activation;

/// Whose names and details an encoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BERT, and MiniLM, which is a small one.
    Bert,
    /// DistilBERT: no token types, no pooler.
    DistilBert,
    /// RoBERTa: positions count from behind the padding token.
    Roberta,
}

/// Names of what comes before the first layer: whole names of tables, the norm's without its part.
pub(super) struct EmbeddingNames {
    pub words: String,
    pub positions: String,
    pub types: String,
    pub norm: String,
}

/// Names of a layer's parts, without `.weight` and `.bias`.
pub(super) struct LayerNames {
    pub query: String,
    pub key: String,
    pub value: String,
    pub attended: String,
    pub attention_norm: String,
    pub widen: String,
    pub narrow: String,
    pub output_norm: String,
}

/// The two linear layers of the classifier, and what lies between.
pub(super) struct ClassifierNames {
    pub dense: &'static str,
    pub activation: Activation,
    pub classifier: &'static str,
    /// Whether there is dropout in front of both.
    pub drop_first: bool,
}

/// The transform in front of the decoder of a masked language model, and the decoder's bias; its weight is the table
/// of words.
pub(super) struct LanguageNames {
    pub dense: &'static str,
    pub norm: &'static str,
    pub bias: &'static str,
}

impl Family {
    /// All of them, by the name in `model_type`.
    pub const ALL: [(&'static str, Self); 3] =
        [("bert", Self::Bert), ("distilbert", Self::DistilBert), ("roberta", Self::Roberta)];

    /// `model_type` of its configurations.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, family)| *family == self).map_or("", |(name, _)| name)
    }

    /// What the names of parameters begin with in models with a head.
    pub(in crate::models) fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::DistilBert => "distilbert.",
            Self::Roberta => "roberta.",
        }
    }

    /// Beginnings of the names of other heads' tensors, and of buffers.
    pub(in crate::models) fn unneeded(self, head: Head) -> &'static [&'static str] {
        match (self, head) {
            (Self::Bert, Head::Classes(_)) => &["embeddings.position_ids", "cls."],
            (Self::Bert, Head::MaskedLanguage) => &[
                "embeddings.position_ids",
                "cls.seq_relationship.",
                "cls.predictions.decoder.",
                "pooler.",
                "classifier.",
            ],
            (Self::Bert, Head::Embedding) => {
                &["embeddings.position_ids", "cls.", "pooler.", "classifier."]
            }
            (Self::DistilBert, Head::Classes(_)) => {
                &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."]
            }
            (Self::DistilBert, Head::MaskedLanguage) => {
                &["vocab_projector.weight", "pre_classifier.", "classifier."]
            }
            (Self::DistilBert, Head::Embedding) => &[
                "vocab_transform.",
                "vocab_layer_norm.",
                "vocab_projector.",
                "pre_classifier.",
                "classifier.",
            ],
            (Self::Roberta, Head::Classes(_)) => {
                &["embeddings.position_ids", "lm_head.", "pooler."]
            }
            (Self::Roberta, Head::MaskedLanguage) => {
                &["embeddings.position_ids", "lm_head.decoder.", "pooler.", "classifier."]
            }
            (Self::Roberta, Head::Embedding) => {
                &["embeddings.position_ids", "lm_head.", "pooler.", "classifier."]
            }
        }
    }

    /// Beginnings of the names of a head's parameters.
    pub(in crate::models) fn of_head(self, head: Head) -> &'static [&'static str] {
        match (self, head) {
            (Self::Bert, Head::Classes(_)) => &["bert.pooler.", "classifier."],
            (Self::DistilBert, Head::Classes(_)) => &["pre_classifier.", "classifier."],
            (Self::Roberta, Head::Classes(_)) => &["classifier."],
            (Self::Bert, Head::MaskedLanguage) => &["cls.predictions."],
            (Self::DistilBert, Head::MaskedLanguage) => {
                &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."]
            }
            (Self::Roberta, Head::MaskedLanguage) => &["lm_head."],
            (_, Head::Embedding) => &[],
        }
    }

    /// Whether a parameter's shape depends on the number of classes.
    pub(in crate::models) fn is_output(self, name: &str) -> bool {
        name.strip_prefix(self.classifier_names().classifier)
            .is_some_and(|part| part.starts_with('.'))
    }

    /// Whether a parameter has a row for each token.
    pub(in crate::models) fn is_of_tokens(self, name: &str) -> bool {
        name == self.embeddings().words || name == self.language_names().bias
    }

    /// The name of a parameter with its layer's number changed, if it is a layer's.
    pub(in crate::models) fn of_layer(self, name: &str, change: impl Fn(usize) -> usize) -> String {
        let stack = format!("{}{}.", self.prefix(), self.stack());
        let numbered = name.strip_prefix(&stack).and_then(|rest| rest.split_once('.'));
        match numbered.and_then(|(layer, part)| Some((layer.parse().ok()?, part))) {
            Some((layer, part)) => format!("{stack}{}.{part}", change(layer)),
            None => name.to_owned(),
        }
    }

    /// Name of the layers' stack.
    fn stack(self) -> &'static str {
        if self == Self::DistilBert { "transformer.layer" } else { "encoder.layer" }
    }

    /// What transformers' names of its models begin with.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Bert => "Bert",
            Self::DistilBert => "DistilBert",
            Self::Roberta => "Roberta",
        }
    }

    /// What transformers calls its tokenizer.
    pub(in crate::models) fn tokenizer_class(self) -> &'static str {
        match self {
            Self::Bert => "BertTokenizerFast",
            Self::DistilBert => "DistilBertTokenizerFast",
            Self::Roberta => "RobertaTokenizerFast",
        }
    }

    pub(super) fn embeddings(self) -> EmbeddingNames {
        let name = |part: &str| format!("{}embeddings.{part}", self.prefix());
        EmbeddingNames {
            words: name("word_embeddings.weight"),
            positions: name("position_embeddings.weight"),
            types: name("token_type_embeddings.weight"),
            norm: name("LayerNorm"),
        }
    }

    pub(super) fn layer(self, layer: usize) -> LayerNames {
        let parts = match self {
            Self::Bert | Self::Roberta => [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ],
            Self::DistilBert => [
                "attention.q_lin",
                "attention.k_lin",
                "attention.v_lin",
                "attention.out_lin",
                "sa_layer_norm",
                "ffn.lin1",
                "ffn.lin2",
                "output_layer_norm",
            ],
        };
        let stack = self.stack();
        let [query, key, value, attended, attention_norm, widen, narrow, output_norm] =
            parts.map(|part| format!("{}{stack}.{layer}.{part}", self.prefix()));
        LayerNames { query, key, value, attended, attention_norm, widen, narrow, output_norm }
    }

    pub(super) fn language_names(self) -> LanguageNames {
        let (dense, norm, bias) = match self {
            Self::Bert => (
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.bias",
            ),
            Self::DistilBert => ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
            Self::Roberta => ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
        };
        LanguageNames { dense, norm, bias }
    }

    pub(super) fn classifier_names(self) -> ClassifierNames {
        let (dense, activation, classifier) = match self {
            Self::Bert => ("bert.pooler.dense", Activation::Tanh, "classifier"),
            Self::DistilBert => ("pre_classifier", Activation::Relu, "classifier"),
            Self::Roberta => ("classifier.dense", Activation::Tanh, "classifier.out_proj"),
        };
        ClassifierNames { dense, activation, classifier, drop_first: self == Self::Roberta }
    }
}
