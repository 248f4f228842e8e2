//! What the numbers that a model makes of a whole example mean.

use serde::{Deserialize, Serialize};

/// `problem_type` of a classifier's `config.json`, in Hugging Face's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProblemType {
    /// Logits of classes, one of which an example has.
    #[default]
    #[serde(rename = "single_label_classification")]
    SingleLabel,
    /// Logits of labels, each of which an example may have.
    #[serde(rename = "multi_label_classification")]
    MultiLabel,
    /// Values.
    #[serde(rename = "regression")]
    Regression,
}

impl ProblemType {
    const ALL: [(&'static str, Self); 3] = [
        ("single_label_classification", Self::SingleLabel),
        ("multi_label_classification", Self::MultiLabel),
        ("regression", Self::Regression),
    ];

    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(_, known)| *known == self);
        known.map_or("", |(name, _)| name)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// A sentence that lists those there are.
    pub fn of_name(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, problem)| *problem).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            format!("problem_type `{name}` is none of {names}")
        })
    }

    /// Whether it is [`ProblemType::SingleLabel`].
    pub fn is_single_label(&self) -> bool {
        *self == Self::SingleLabel
    }
}
