//! Files of lines of JSON that are written as a run goes on, each of an arm and a step.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::files::{io_error, write_atomically};
use crate::results::Arm;
use crate::run::{Event, Observer};

/// What of a line says where it belongs.
#[derive(Deserialize)]
struct Line {
    arm: Arm,
    step: u32,
    seconds: f64,
}

/// A file of lines.
pub(super) struct Lines {
    path: PathBuf,
    file: BufWriter<File>,
    /// Seconds of the last line that stayed.
    pub seconds: f64,
}

impl Lines {
    /// Opens the file. Of the lines of an interrupted run, those stay that `keep` says for arm and step; of damaged ones the
    /// observer is told.
    pub fn open(
        path: &Path,
        keep: impl Fn(Arm, u32) -> bool,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let mut seconds = 0.0;
        let old = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(io_error(path))?,
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
                seconds = line.seconds;
            }
        }
        if damaged > 0 {
            let shown = path.display();
            let note = format!("{shown} had damaged lines, which are left out: {damaged}");
            observer.event(&Event::Note(&note));
        }
        write_atomically(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(io_error(path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), seconds })
    }

    /// Adds lines.
    ///
    /// # Errors
    /// [`Error::Run`] when the file is gone, [`Error::Io`] when it cannot be written.
    pub fn add(&mut self, lines: &[Value]) -> Result<(), Error> {
        if !self.path.exists() {
            let problem = "it is gone since this began, and perhaps its folder too: nothing more can be saved";
            return Err(Error::Run {
                path: self.path.display().to_string(),
                problem: problem.to_owned(),
            });
        }
        let mut written = lines.iter().map(|line| writeln!(self.file, "{line}"));
        let written = written.try_for_each(|written| written).and_then(|()| self.file.flush());
        written.map_err(io_error(&self.path))
    }
}
