//! `metrics.jsonl`: a line for each epoch of each arm, and for each measurement within one; behind it, one for each loss
//! of features. `written.jsonl`: a line for each step in which a student learns from what it writes itself.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::lines::Lines;
use crate::error::Error;
use crate::objective::TermMetrics;
use crate::results::{Arm, WRITTEN};
use crate::run::tensorboard::TensorBoard;
use crate::run::{Event, Observer};

/// Name of the log in a run's folder.
pub const NAME: &str = "metrics.jsonl";

/// Writes the log and passes every event on.
pub(crate) struct Log<'a> {
    folder: PathBuf,
    metrics: Lines,
    /// What a student writes and learns from, if it does.
    written: Option<Lines>,
    tensorboard: Option<TensorBoard>,
    failed: Option<Error>,
    start: Instant,
    /// Seconds that the run had taken before this start.
    before: f64,
    next: &'a mut dyn Observer,
}

impl<'a> Log<'a> {
    /// Opens the log. Of the lines of an interrupted run, those stay that `keep` says for arm and step.
    pub fn open(
        folder: &Path,
        tensorboard: bool,
        keep: impl Fn(Arm, u32) -> bool,
        next: &'a mut dyn Observer,
    ) -> Result<Self, Error> {
        let metrics = Lines::open(&folder.join(NAME), &keep, next)?;
        let written = folder.join(WRITTEN);
        let written = match written.exists() {
            true => Some(Lines::open(&written, &keep, next)?),
            false => None,
        };
        let tensorboard = tensorboard.then(|| TensorBoard::new(folder));
        let (start, before) = (Instant::now(), metrics.seconds);
        let folder = folder.to_owned();
        Ok(Self { folder, metrics, written, tensorboard, failed: None, start, before, next })
    }

    /// Time that the run has taken, before an interruption too.
    pub fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// At least so much time had been taken before this start.
    pub fn begin_after(&mut self, seconds: f64) {
        self.before = self.before.max(seconds);
    }

    /// Tells whoever watches.
    pub fn note(&mut self, note: &str) {
        self.next.event(&Event::Note(note));
    }

    /// Why training stopped: for a line that could not be written, if that is what stopped it.
    pub fn cause(&mut self, error: Error) -> Error {
        match error {
            Error::Interrupted { .. } => self.failed.take().unwrap_or(error),
            error => error,
        }
    }

    /// The log is whole.
    ///
    /// # Errors
    /// [`Error::Io`] when a line could not be written.
    pub fn finish(self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)
    }

    /// A line of what a student wrote.
    fn write_text(&mut self, arm: Arm, step: u32, [given, own]: [&str; 2]) -> Result<(), Error> {
        let seconds = self.seconds();
        let line = json!({ "arm": arm.name(), "step": step, "seconds": seconds, "given": given, "own": own });
        let file = match &mut self.written {
            Some(file) => file,
            none => none.insert(Lines::open(&self.folder.join(WRITTEN), |_, _| true, self.next)?),
        };
        file.add(&[line])
    }

    fn write(&mut self, event: &Event<'_>) -> Result<(), Error> {
        let seconds = self.seconds();
        let (arm, epoch, step, learning_rate, shares, scale, mut line, sets, terms) = match event {
            Event::Epoch {
                arm,
                epoch,
                step,
                learning_rate,
                train,
                test,
                terms,
                validation,
                shares,
                scale,
            } => {
                let mut line = json!({
                    "arm": arm.name(),
                    "epoch": epoch,
                    "step": step,
                    "learning_rate": learning_rate,
                    "seconds": seconds,
                    "train": train,
                    "test": test,
                });
                if let Some(validation) = validation {
                    line["validation"] = json!(validation);
                }
                let sets = [("train", *train), ("test", *test)].into_iter();
                let sets = sets.chain(validation.map(|metrics| ("validation", metrics)));
                let sets = sets.collect::<Vec<_>>();
                (*arm, Some(*epoch), *step, *learning_rate, shares, scale, line, sets, *terms)
            }
            Event::Measured {
                arm,
                step,
                learning_rate,
                train,
                metrics,
                terms,
                validation,
                shares,
                scale,
            } => {
                let set = if *validation { "validation" } else { "test" };
                let line = json!({
                    "arm": arm.name(),
                    "step": step,
                    "learning_rate": learning_rate,
                    "seconds": seconds,
                    "train": train,
                    set: metrics,
                });
                let sets = vec![("train", *train), (set, *metrics)];
                (*arm, None, *step, *learning_rate, shares, scale, line, sets, *terms)
            }
            _ => return Ok(()),
        };
        if let Some(shares) = shares {
            line["gradient_shares"] = json!(shares);
        }
        if let Some(scale) = scale {
            line["loss_scale"] = json!(scale);
        }
        let mut lines = vec![line];
        for TermMetrics { term, weight, value } in terms {
            let mut line = json!({
                "arm": arm.name(),
                "step": step,
                "seconds": seconds,
                "term": term,
                "weight": weight,
                "value": value,
            });
            if let Some(epoch) = epoch {
                line["epoch"] = json!(epoch);
            }
            lines.push(line);
        }
        self.metrics.add(&lines)?;
        match &mut self.tensorboard {
            Some(board) => board.add(arm, step, learning_rate, &sets, terms),
            None => Ok(()),
        }
    }
}

impl Observer for Log<'_> {
    fn event(&mut self, event: &Event<'_>) {
        let written = match *event {
            Event::Wrote { arm, step, given, own } => self.write_text(arm, step, [given, own]),
            _ => self.write(event),
        };
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
        self.next.event(event);
    }

    fn stop(&self) -> bool {
        // What cannot be logged is not worth training: the run stops, and then says why.
        self.failed.is_some() || self.next.stop()
    }
}
