//! Programs beside this one: bounded in time, ended with what started them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes at the end of what a program says among which its last line is sought.
const TAIL: u64 = 4096;
/// Letters of a line that is passed on.
const LONGEST: usize = 200;
/// From one look at a program to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// A program at work, which ends with this.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    /// Holds what it says of its troubles.
    said: PathBuf,
    begun: Instant,
    patience: Duration,
}

impl Child {
    /// Starts a program that may take so long; what it says of its troubles goes into the file `said`.
    pub fn start(command: &mut Command, said: &Path, patience: Duration) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(said)?);
        let process = command.spawn()?;
        Ok(Self { process, said: said.to_owned(), begun: Instant::now(), patience })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Where it takes too long.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        let ended = self.process.try_wait().map_err(|error| error.to_string())?;
        if ended.is_none() && self.begun.elapsed() > self.patience {
            return Err(format!("it took more than {} seconds", self.patience.as_secs()));
        }
        Ok(ended)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub fn wait(&mut self) -> Result<ExitStatus, String> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
    }

    /// The last line that it said of its troubles; else how it ended.
    pub fn problem(&self, status: ExitStatus) -> String {
        let last = tail(&self.said).unwrap_or_default();
        match last.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(last) => line(last),
            None => format!("it ended with {status}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = fs::metadata(path)?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What another program says as a short line.
pub(super) fn line(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(plain).take(LONGEST).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> (Child, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let child = Child::start(&mut command, &folder.path().join("said"), patience);
        (child.expect("a shell"), folder)
    }

    #[test]
    fn the_last_line_is_the_problem() {
        let minute = Duration::from_secs(60);
        for (script, wanted) in [
            ("echo first >&2; printf 'a\\033[2J\\tlast \\n\\n' >&2; exit 4", "a [2J last"),
            ("yes x | head -c 100000 | tr -d '\\n' >&2; exit 1", &*"x".repeat(LONGEST)),
            ("exit 4", "it ended with exit status: 4"),
        ] {
            let (mut child, _folder) = shell(script, minute);
            let status = child.wait().unwrap();
            assert_eq!(child.problem(status), wanted, "{script}");
        }
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let begun = Instant::now();
        let (mut child, _folder) = shell("exec sleep 100", Duration::from_millis(50));
        assert_eq!(child.wait().unwrap_err(), "it took more than 0 seconds");
        drop(child);
        assert!(begun.elapsed() < Duration::from_secs(50));
    }
}
