//! `texts.json`: what causal language models learn of some documents, and how they go on with some beginnings.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::write_atomically;

/// Its name in a run's folder.
pub const FILE: &str = "texts.json";

/// The content of `texts.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Texts {
    /// The first training documents, each in parts.
    pub learnt: Vec<Vec<Part>>,
    /// Beginnings of test documents.
    pub continued: Vec<Continued>,
    /// The share of places in the students' rows of tokens that hold none.
    pub padding: f64,
}

/// A part of a training document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its text.
    pub text: String,
    /// Whether its tokens count in the loss.
    pub learnt: bool,
}

/// A beginning of a test document, and how each model goes on with it, always by its likeliest token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Continued {
    /// What the models read; of a chat its last message.
    pub prompt: String,
    /// What the teacher writes.
    pub teacher: String,
    /// What the student alone writes.
    pub control: String,
    /// What the distilled student writes.
    pub distilled: String,
}

impl Continued {
    /// By model: class on the page, its name, and what it writes.
    pub fn models(&self) -> [(&'static str, &'static str, &str); 3] {
        [
            ("teacher", "teacher", &self.teacher),
            ("control", "student alone", &self.control),
            ("distilled", "student distilled", &self.distilled),
        ]
    }
}

impl Texts {
    /// The share of padding in percent.
    pub fn padding_percent(&self) -> String {
        format!("{:.1}", 100.0 * self.padding)
    }

    /// Writes `texts.json` into the run's folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let json = serde_json::to_string(self).expect("texts are plain data");
        write_atomically(&folder.join(FILE), format!("{json}\n").as_bytes())
    }
}
