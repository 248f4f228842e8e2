//! `task`: what the models learn to do.

use serde::{Deserialize, Serialize};

use crate::data::LabelKind;

/// What the models learn to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// To tell an example's class.
    #[default]
    Classification,
    /// To guess the masked tokens of a text (Devlin et al. 2019); needs no labels.
    MaskedLm,
    /// To give each text a vector, near to those of texts that mean the same; needs no labels.
    Embedding,
}

impl Task {
    /// All of them, by the name that recipes give them.
    pub const ALL: [(&'static str, Self); 3] = [
        ("classification", Self::Classification),
        ("masked-lm", Self::MaskedLm),
        ("embedding", Self::Embedding),
    ];

    /// The labels that it asks of data.
    pub fn labels(self) -> LabelKind {
        match self {
            Self::Classification => LabelKind::Class,
            Self::MaskedLm | Self::Embedding => LabelKind::None,
        }
    }

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, task)| *task == self).map_or("", |(name, _)| name)
    }
}
