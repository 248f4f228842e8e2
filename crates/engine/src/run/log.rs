//! `metrics.jsonl`: a line for each epoch of each arm, and for each measurement within one; behind it, one for each loss
//! of features.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use crate::error::Error;
use crate::files::{io_error, write_atomically};
use crate::objective::TermMetrics;
use crate::results::Arm;
use crate::run::tensorboard::TensorBoard;
use crate::run::{Event, Observer};

/// Name of the log in a run's folder.
pub const NAME: &str = "metrics.jsonl";

/// What of a line says where it belongs.
#[derive(Deserialize)]
struct Line {
    arm: Arm,
    step: u32,
    seconds: f64,
}

/// Writes the log and passes every event on.
pub(crate) struct Log<'a> {
    path: PathBuf,
    file: BufWriter<File>,
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
        let path = folder.join(NAME);
        let mut before = 0.0;
        let old = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(io_error(&path))?,
        };
        // Bytes that are no text are of a line that is damaged.
        let old = String::from_utf8_lossy(&old);
        let (mut kept, mut damaged) = (String::new(), 0);
        let mut lines = old.lines().peekable();
        while let Some(text) = lines.next() {
            let Ok(line) = serde_json::from_str::<Line>(text) else {
                // The last line may be cut off; it is then of an epoch that is trained again.
                damaged += usize::from(lines.peek().is_some());
                continue;
            };
            if keep(line.arm, line.step) {
                kept.push_str(text);
                kept.push('\n');
                before = line.seconds;
            }
        }
        if damaged > 0 {
            let path = path.display();
            let note = format!("{path} had damaged lines, which are left out: {damaged}");
            next.event(&Event::Note(&note));
        }
        write_atomically(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io_error(&path))?;
        let tensorboard = tensorboard.then(|| TensorBoard::new(folder));
        let (file, start) = (BufWriter::new(file), Instant::now());
        Ok(Self { path, file, tensorboard, failed: None, start, before, next })
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

    fn write(&mut self, event: &Event<'_>) -> Result<(), Error> {
        if !self.path.exists() {
            let problem = "it is gone since this began, and perhaps its folder too: nothing more can be saved";
            return Err(Error::Run {
                path: self.path.display().to_string(),
                problem: problem.to_owned(),
            });
        }
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
        let mut written = lines.iter().map(|line| writeln!(self.file, "{line}"));
        let written = written.try_for_each(|written| written).and_then(|()| self.file.flush());
        written.map_err(io_error(&self.path))?;
        match &mut self.tensorboard {
            Some(board) => board.add(arm, step, learning_rate, &sets, terms),
            None => Ok(()),
        }
    }
}

impl Observer for Log<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Err(error) = self.write(event) {
            self.failed.get_or_insert(error);
        }
        self.next.event(event);
    }

    fn stop(&self) -> bool {
        // What cannot be logged is not worth training: the run stops, and then says why.
        self.failed.is_some() || self.next.stop()
    }
}
