//! `texts.json`: what causal language models learn of some documents, and how they go on with some beginnings.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::{io_error, write_atomically};

/// Its name in a run's folder.
pub const FILE: &str = "texts.json";

/// What a student writes in its training, a line a step, in a run's folder.
pub const WRITTEN: &str = "written.jsonl";

/// The content of `texts.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Texts {
    /// The first training documents, each in parts.
    pub learnt: Vec<Vec<Part>>,
    /// Beginnings of test documents.
    pub continued: Vec<Continued>,
    /// What the student wrote in its training and learnt from: of its first such steps to its last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<Written>,
    /// The share of places in the students' rows of tokens that hold none.
    pub padding: f64,
}

/// A line of `written.jsonl`: the first text of a step that a student wrote itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Steps so far.
    pub step: u32,
    /// What was given of a training document.
    pub given: String,
    /// What the student went on with.
    pub own: String,
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

impl Written {
    /// The most that are shown.
    const SHOWN: usize = 3;

    /// Some of a run's folder, from the first to the last; none where there are none. Damaged lines are left out.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub(crate) fn some(folder: &Path) -> Result<Vec<Self>, Error> {
        let path = folder.join(WRITTEN);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let lines = BufReader::new(File::open(&path).map_err(io_error(&path))?).lines();
        let mut all: Vec<Self> = Vec::new();
        for line in lines {
            all.extend(serde_json::from_str::<Self>(&line.map_err(io_error(&path))?));
        }
        let (count, last) = (Self::SHOWN.min(all.len()), all.len().saturating_sub(1));
        let place = |number: usize| number * last / (count - 1).max(1);
        Ok((0..count).map(|number| all[place(number)].clone()).collect())
    }
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
