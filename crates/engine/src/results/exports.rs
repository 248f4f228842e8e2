//! `exports.json`: what runtimes make of one of a run's models, each measured by itself.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{UNKNOWN, percent};
use crate::error::Error;
use crate::files::write_atomically;
use crate::results::Arm;
use crate::task::TaskRef;
use crate::words::{counted_thousands, thousands};

/// Its name in a run's folder.
pub const FILE: &str = "exports.json";

/// The content of `exports.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exports {
    /// Which of the run's models was exported.
    pub arm: Arm,
    /// What it does.
    pub task: TaskRef,
    /// Test examples that all were measured on.
    pub examples: usize,
    /// The model as this program runs it, then its ways out, then the run's other models.
    pub ways: Vec<Way>,
}

/// A form of a model that a runtime takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// What it is.
    pub name: String,
    /// Bytes of what its runtime loads.
    pub bytes: u64,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Figures, or why there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// They are these.
    Measured(Figures),
    /// There are none, for this reason.
    NotMeasured(String),
}

/// What was measured of a way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What computed the answers, and on what.
    pub runtime: String,
    /// Examples that there are answers to, evenly spread, where there was no time for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<usize>,
    /// The task's first measure, where the examples have labels.
    pub score: Option<f64>,
    /// Share of the answers that are those of the model as this program runs it; absent of that model, and where it means
    /// nothing.
    pub agreement: Option<f64>,
    /// The largest difference of a number of an answer from that model's; absent of it and of other models.
    pub furthest: Option<f64>,
    /// Time of one example in milliseconds, the median of several.
    pub latency_ms: f64,
    /// Examples a second in batches.
    pub examples_per_second: f64,
}

impl Figures {
    /// What computed the answers, and to how many examples where not to all.
    fn runs_in(&self) -> String {
        let part = |count| format!("{}, to {} of the examples", self.runtime, thousands(count));
        self.examples.map_or_else(|| self.runtime.clone(), part)
    }
}

/// A row of the table, its name first.
pub type ExportRow = [String; 8];

impl Exports {
    /// Heads of the table's columns.
    pub fn head(&self) -> ExportRow {
        let score = self.task.score().title;
        ["", "runs in", "size", score, "same answer", "furthest number", "latency", "examples/s"]
            .map(str::to_owned)
    }

    /// The table.
    pub fn rows(&self) -> Vec<ExportRow> {
        let format = self.task.score().format;
        let row = |way: &Way| {
            let size = format!("{:.2} MB", way.bytes as f64 / 1e6);
            let unknown = || UNKNOWN.to_owned();
            let [runtime, score, agreement, furthest, latency, speed] = match &way.outcome {
                Outcome::NotMeasured(reason) => {
                    let [a, b, c, d, e] = [(); 5].map(|()| unknown());
                    [format!("not measured: {reason}"), a, b, c, d, e]
                }
                Outcome::Measured(own) => [
                    own.runs_in(),
                    own.score.map_or_else(unknown, |score| format.show(score)),
                    percent(own.agreement),
                    own.furthest.map_or_else(unknown, |furthest| format!("{furthest:.1e}")),
                    format!("{:.3} ms", own.latency_ms),
                    rate(own.examples_per_second),
                ],
            };
            [way.name.clone(), runtime, size, score, agreement, furthest, latency, speed]
        };
        self.ways.iter().map(row).collect()
    }

    /// What the table is of, in sentences.
    pub fn note(&self) -> String {
        format!(
            "Measured on the same {}, each way by a runtime of its own. Answers and their numbers are compared with those of \
             the first row.",
            counted_thousands(self.examples, "test example")
        )
    }

    /// Writes `exports.json` into the run's folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).expect("figures are plain data");
        write_atomically(&folder.join(FILE), format!("{json}\n").as_bytes())
    }
}

/// Examples a second; few of them to a tenth.
fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { thousands(rate as usize) }
}
