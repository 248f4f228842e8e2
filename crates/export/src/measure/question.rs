//! What every runtime is asked, and what it says: the same examples in the same order, as files.

use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::data::{Examples, Normalisation};
use distil_gpu_engine::models::BatchEncoder;
use serde::Deserialize;
use serde_json::json;

use super::child::Patience;
use crate::error::{Error, io};

/// Name of the file that says what the examples are: `texts` with their tokens `ids` and `types`, or `length`, how many
/// numbers an example has; `one` is the example whose latency is measured.
pub(super) const EXAMPLES: &str = "examples.json";
/// Name of the file of numbers [examples, length] in f32, little-endian, pixels divided by 255.
pub(super) const FEATURES: &str = "features.bin";

/// Bytes of a number in JSON, at most, and of all else that a runtime says.
const NUMBER: usize = 32;
const REST: usize = 1 << 16;

/// What runtimes are asked.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// The program that has onnxruntime.
    pub python: &'a Path,
    /// A folder for files that are soon forgotten; those of the examples are in it.
    pub scratch: &'a Path,
    pub feed: &'a BatchEncoder<'a>,
    /// Numbers of an answer, and the answers there are.
    pub width: usize,
    pub count: usize,
    /// For how long an answer is waited for.
    pub patience: Patience<'a>,
}

impl Question<'_> {
    /// Writes the files of the examples.
    pub fn write(&self, examples: &Examples) -> Result<(), Error> {
        let one = self.feed.sample(1)[0];
        let json = match (examples.texts(), examples.numbers()) {
            (Some(texts), _) => {
                let tokens = self.feed.tokens();
                let rows = || (0..tokens.len()).map(|row| tokens.row(row));
                let texts = texts.all().iter().map(|text| match &text.second {
                    Some(second) => vec![&text.first, second],
                    None => vec![&text.first],
                });
                json!({
                    "one": one, "length": 0, "texts": texts.collect::<Vec<_>>(),
                    "ids": rows().map(|row| row.0).collect::<Vec<_>>(),
                    "types": rows().map(|row| row.1).collect::<Vec<_>>(),
                })
            }
            (None, Some(numbers)) => {
                let rows: Vec<u32> = (0..numbers.len() as u32).collect();
                let mut values = vec![0.0; rows.len() * numbers.example_len()];
                numbers.gather(&rows, &Normalisation::identity(), None, &mut values);
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.put(FEATURES, &bytes)?;
                json!({ "one": one, "length": numbers.example_len() })
            }
            (None, None) => json!({}),
        };
        self.put(EXAMPLES, json.to_string().as_bytes())?;
        Ok(())
    }

    /// Puts a file into the scratch folder.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.scratch.join(name);
        fs::write(&path, bytes).map_err(io(&path))?;
        Ok(path)
    }

    /// The most bytes that what a runtime says may have.
    pub fn most_bytes(&self) -> usize {
        // A row's number beside those of its answer.
        self.count * (self.width + 1) * NUMBER + REST
    }

    /// Reads what a runtime says.
    ///
    /// # Errors
    /// The reason why there are no answers.
    pub fn read(&self, said: &[u8]) -> Result<Answered, String> {
        let said = serde_json::from_slice(said);
        let said = said.map_err(|error| format!("its answers cannot be read: {error}"))?;
        let (logits, rows, rest) = match said {
            Said::Failed { error } => return Err(super::child::line(&error)),
            Said::Answers { logits, rows, rest } => (logits, rows, rest),
        };
        let rows = rows.filter(|rows| rows.len() != self.count);
        if let Some(rows) = &rows {
            let within = rows.last().is_some_and(|&last| (last as usize) < self.count);
            if !(within && rows.is_sorted_by(|one, next| one < next)) {
                return Err("its answers are to no examples of these".to_owned());
            }
        }
        let answers = rows.as_ref().map_or(self.count, Vec::len);
        let (found, wanted) = (logits.len(), answers * self.width);
        if found != wanted {
            return Err(format!("it answered {found} numbers instead of {wanted}"));
        }
        let finite = |number: Option<f32>| number.filter(|number| number.is_finite());
        let logits: Option<Vec<f32>> = logits.into_iter().map(finite).collect();
        let logits = logits.ok_or("some of its answers are no numbers")?;
        let Rest { runtime, latency_ms, examples_per_second } = rest;
        let runtime = super::child::line(&runtime);
        Ok(Answered { logits, rows, runtime, latency_ms, examples_per_second })
    }
}

/// A runtime's answers to the examples.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// One example's numbers behind the other's.
    pub logits: Vec<f32>,
    /// The examples that there are answers to, rising; none where there are answers to all.
    pub rows: Option<Vec<u32>>,
    /// What computed them.
    pub runtime: String,
    pub latency_ms: f64,
    pub examples_per_second: f64,
}

/// What a runtime says; a number that is none is `null`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Failed {
        error: String,
    },
    Answers {
        logits: Vec<Option<f32>>,
        rows: Option<Vec<u32>>,
        #[serde(flatten)]
        rest: Rest,
    },
}

#[derive(Deserialize)]
struct Rest {
    runtime: String,
    latency_ms: f64,
    examples_per_second: f64,
}
