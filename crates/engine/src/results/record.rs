//! Reads the folder of a run back.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::json::{bad, parse, read};
use super::{
    Answers, Exports, Guesses, REPORT, Report, SWEEP, Texts, answers, exports, guesses, texts,
};
use crate::error::Error;
use crate::results::{Arm, Metrics};
use crate::run::GRID;

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Epoch {
    /// Which arm.
    pub arm: Arm,
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Steps so far.
    pub step: u32,
    /// Over the epoch's training batches.
    pub train: Metrics,
    /// Over the test set, after the epoch.
    pub test: Metrics,
}

/// What every other line has.
#[derive(Deserialize)]
struct Measured {
    #[serde(rename = "arm")]
    _arm: Arm,
    #[serde(rename = "step")]
    _step: u32,
    #[serde(rename = "train")]
    _train: Metrics,
}

/// What tells a line of a loss of features.
#[derive(Deserialize)]
struct Term {
    #[serde(rename = "term")]
    _term: String,
}

/// Everything that the page of a run shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// `report.json`.
    pub report: Report,
    /// `metrics.jsonl`: the epochs by arm and number, each once.
    pub epochs: Vec<Epoch>,
    /// `answers.json`; absent in the folder of a run that wrote none.
    pub answers: Option<Answers>,
    /// `guesses.json`; absent likewise.
    pub guesses: Option<Guesses>,
    /// `texts.json`; absent likewise.
    pub texts: Option<Texts>,
    /// `exports.json`; absent where no export was measured.
    pub exports: Option<Exports>,
    /// `recipe.toml`.
    pub recipe: String,
}

impl Record {
    /// Reads the folder of a finished run.
    ///
    /// # Errors
    /// [`Error::Run`] when the folder holds no finished run or a file is damaged; a last line of
    /// `metrics.jsonl` that was cut short is left out. [`Error::Io`] when a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let report = folder.join(REPORT);
        if !report.is_file() {
            let holds = |name: &str| folder.join(name).is_file();
            let problem = match (holds(SWEEP), holds(GRID), holds("recipe.toml")) {
                (true, ..) => "the folder of a sweep: it has a page of its own".to_owned(),
                (_, true, _) => format!("the sweep is not finished: there is no {SWEEP}"),
                (.., true) => format!("the run is not finished: there is no {REPORT}"),
                _ => format!("not the folder of a run: there is no {REPORT} in it"),
            };
            return Err(bad(folder, problem));
        }
        let (metrics, answers) = (folder.join("metrics.jsonl"), folder.join(answers::FILE));
        let [guesses, texts, exports] =
            [guesses::FILE, texts::FILE, exports::FILE].map(|name| folder.join(name));
        let mut report: Report = parse(&report)?;
        report.judge();
        let record = Self {
            report,
            epochs: epochs(&metrics)?,
            answers: answers.is_file().then(|| parse(&answers)).transpose()?,
            guesses: guesses.is_file().then(|| parse(&guesses)).transpose()?,
            texts: texts.is_file().then(|| parse(&texts)).transpose()?,
            exports: exports.is_file().then(|| parse(&exports)).transpose()?,
            recipe: read(&folder.join("recipe.toml"))?,
        };
        match record.answers.as_ref().and_then(Answers::problem) {
            Some(problem) => Err(bad(&answers, problem)),
            None => Ok(record),
        }
    }
}

/// The epochs by arm and number. One that was trained again, by a run that went on after a break, counts as
/// it was last.
fn epochs(path: &Path) -> Result<Vec<Epoch>, Error> {
    let text = read(path)?;
    let mut epochs = BTreeMap::new();
    let mut lines = text.split('\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let last = lines.peek().is_none();
        match serde_json::from_str::<Epoch>(line) {
            Ok(epoch) => _ = epochs.insert((epoch.arm, epoch.epoch), epoch),
            // Of a loss of features.
            Err(_) if serde_json::from_str::<Term>(line).is_ok() => {}
            // A measurement within an epoch.
            Err(_) if serde_json::from_str::<Measured>(line).is_ok() => {}
            // Where the writer was stopped; or the nothing after the last line's end.
            Err(_) if last => {}
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.split(" at line ").next().unwrap_or_default();
                let (line, column) = (number + 1, error.column());
                return Err(bad(path, format!("line {line}, column {column}: damaged: {reason}")));
            }
        }
    }
    Ok(epochs.into_values().collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(arm: &str, epoch: u32, loss: f64) -> String {
        format!(
            r#"{{"arm":"{arm}","epoch":{epoch},"step":{epoch},"learning_rate":0.1,"seconds":1.0,"train":{{"loss":{loss},"hard":{loss},"accuracy":0.5}},"test":{{"loss":{loss},"hard":{loss},"accuracy":0.5}}}}"#
        )
    }

    fn epochs_of(text: &str) -> Result<Vec<(Arm, u32, f64)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let short = |e: Epoch| (e.arm, e.epoch, e.test.loss);
        let path = format!("{}: ", file.path().display());
        epochs(file.path())
            .map(|epochs| epochs.into_iter().map(short).collect())
            .map_err(|error| error.to_string().replace(&path, ""))
    }

    #[test]
    fn an_epoch_that_was_trained_again_counts_once() {
        let lines = [line("control", 1, 0.5), line("control", 2, 0.4), line("control", 2, 0.3)];
        let wanted = [(Arm::Control, 1, 0.5), (Arm::Control, 2, 0.3)];
        assert_eq!(epochs_of(&(lines.join("\n") + "\n")).unwrap(), wanted);
    }

    #[test]
    fn measurements_within_an_epoch_are_none() {
        let within =
            line("control", 2, 0.4).replace("\"epoch\":2,", "").replace("test", "validation");
        let text = [line("control", 1, 0.5), within].join("\n");
        assert_eq!(epochs_of(&text).unwrap(), [(Arm::Control, 1, 0.5)]);
    }

    #[test]
    fn losses_of_features_are_no_epochs() {
        let term = r#"{"arm":"distilled","epoch":1,"step":1,"seconds":1.0,"term":"hidden mse 3 to 6","weight":1.0,"value":0.5}"#;
        let text =
            format!("{}\n{term}\n{}\n", line("distilled", 1, 0.5), line("distilled", 2, 0.4));
        let wanted = [(Arm::Distilled, 1, 0.5), (Arm::Distilled, 2, 0.4)];
        assert_eq!(epochs_of(&text).unwrap(), wanted);
    }

    #[test]
    fn only_a_last_line_may_be_cut_short() {
        let (whole, half) = (line("teacher", 1, 0.5), &line("teacher", 2, 0.4)[..40]);
        let first = [(Arm::Teacher, 1, 0.5)];
        assert_eq!(epochs_of(&format!("{whole}\n{half}")).unwrap(), first);
        assert_eq!(epochs_of(&whole).unwrap(), first);
        let error = epochs_of(&format!("{half}\n{whole}\n")).unwrap_err();
        assert_eq!(error, "line 1, column 40: damaged: EOF while parsing a string");
        let error = epochs_of(&format!("{whole}\n{{}}\n")).unwrap_err();
        assert_eq!(error, "line 2, column 2: damaged: missing field `arm`");
    }
}
