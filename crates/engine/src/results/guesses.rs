//! `guesses.json`: what three language models guess of some masked tokens of the test set.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::write_atomically;

/// Its name in a run's folder.
pub const FILE: &str = "guesses.json";

/// The content of `guesses.json`. Probabilities are rounded to four decimals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guesses {
    /// The chosen texts, each with one of its masked tokens.
    pub texts: Vec<GuessedText>,
}

/// A masked token of a test text, and the models' guesses, the likeliest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuessedText {
    /// The text's place in the test set, from 0.
    pub index: usize,
    /// What stands before the masked token, as the models read it; cut where the text is long.
    pub before: String,
    /// What stands behind it.
    pub after: String,
    /// The token that was masked.
    pub token: String,
    /// The teacher's guesses.
    pub teacher: Vec<Guess>,
    /// The student alone's.
    pub control: Vec<Guess>,
    /// The distilled student's.
    pub distilled: Vec<Guess>,
}

/// A token that a model holds to be likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// The token.
    pub token: String,
    /// Whether it is the one that was masked.
    pub right: bool,
    /// Its probability.
    pub probability: f64,
}

impl Guess {
    /// The probability in percent.
    pub fn percent(&self) -> String {
        format!("{:.1}", 100.0 * self.probability)
    }
}

impl GuessedText {
    /// The models, as the page has them in columns: class of the column, and guesses.
    pub fn models(&self) -> [(&'static str, &[Guess]); 3] {
        [("teacher", &self.teacher), ("control", &self.control), ("distilled", &self.distilled)]
    }
}

impl Guesses {
    /// Writes `guesses.json` into the run's folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let json = serde_json::to_string(self).expect("guesses are plain data");
        write_atomically(&folder.join(FILE), format!("{json}\n").as_bytes())
    }
}
