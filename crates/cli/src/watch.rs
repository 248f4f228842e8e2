//! What a long command shows, and how Ctrl-C and other signals stop it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};
use distil_gpu_engine::Error;
use distil_gpu_engine::run::{Event, Observer};

use crate::progress::Progress;
use crate::signals::{self, exit_code};
use crate::{Voice, note};

/// Watches a run or a sweep for the terminal, and for signals to stop.
#[derive(Debug)]
pub struct Watch {
    progress: Option<Progress>,
    folder: Option<PathBuf>,
    /// The signal that asks it to stop; 0 while there is none.
    signal: Arc<AtomicUsize>,
}

impl Watch {
    /// From now on Ctrl-C, SIGTERM and SIGHUP ask the run to stop; a second one stops it at once.
    pub fn new(voice: Voice) -> Result<Self> {
        let signal = signals::watch().context("Ctrl-C cannot be watched")?;
        Ok(Self { progress: voice.progress().then(Progress::new), folder: None, signal })
    }

    /// What to do about a run or sweep, as the `command` is called, that did not end well.
    pub fn explain(&self, error: Error, command: &str) -> Result<ExitCode> {
        // Its folder is known from the moment when there is something to go on with.
        let Some(folder) = &self.folder else { return Err(error.into()) };
        let resume = format!("distil-gpu {command} --resume {}", folder.display());
        match error {
            Error::Interrupted { arm, step } => {
                note(format_args!("Stopped after step {step} of the {arm}. Go on with: {resume}"));
                Ok(exit_code(self.signal.load(Ordering::Relaxed)).into())
            }
            Error::NotFinite(_) if command == "sweep" => Err(anyhow!(
                "{error}; without a teacher there is no sweep: begin it anew, with --force"
            )),
            Error::NotFinite(_) => Err(anyhow!(
                "{error}; to go on from the last good checkpoint with other settings: {resume} --set \
                 KEY=VALUE --accept-changes"
            )),
            error => {
                let error = anyhow::Error::new(error);
                Err(anyhow!("{error:#}; to go on from the last checkpoint: {resume}"))
            }
        }
    }
}

impl Observer for Watch {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Opened { folder } = event {
            self.folder = Some(folder.to_path_buf());
        }
        if let Some(progress) = &mut self.progress {
            progress.event(event);
        }
    }

    fn stop(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }
}
