//! Programs beside this one: bounded in time, ended with what started them, and all that they started with them.

use std::fmt;
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

/// For how long a program is waited for.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    /// It may take so long.
    pub time: Duration,
    /// Whether nobody wants its answer any more.
    pub stop: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patience({:?})", self.time)
    }
}

/// A program at work, which ends with this.
#[derive(Debug)]
pub(super) struct Child<'a> {
    process: process::Child,
    /// Holds what it says of its troubles.
    said: PathBuf,
    begun: Instant,
    patience: Patience<'a>,
}

impl<'a> Child<'a> {
    /// Starts a program; what it says of its troubles goes into the file `said`.
    pub fn start(command: &mut Command, said: &Path, patience: Patience<'a>) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(said)?);
        // A group of processes that is ended as one.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let process = command.spawn()?;
        Ok(Self { process, said: said.to_owned(), begun: Instant::now(), patience })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Where it takes too long, or nobody waits for it any more.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        if (self.patience.stop)() {
            return Err("it was stopped".to_owned());
        }
        let ended = self.process.try_wait().map_err(|error| error.to_string())?;
        if ended.is_none() && self.begun.elapsed() > self.patience.time {
            return Err(format!("it took more than {} seconds", self.patience.time.as_secs()));
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

impl Drop for Child<'_> {
    fn drop(&mut self) {
        // It may have ended already, and what it started may not.
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        }
        #[cfg(not(unix))]
        {
            _ = self.process.kill();
        }
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

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn shell<'a>(
        script: &str,
        seconds: f64,
        stop: &'a dyn Fn() -> bool,
    ) -> (Child<'a>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        let patience = Patience { time: Duration::from_secs_f64(seconds), stop };
        let child = Child::start(&mut command, &folder.path().join("said"), patience);
        (child.expect("a shell"), folder)
    }

    /// The numbers of processes in a file, once it is whole.
    fn numbers(folder: &Path) -> Vec<String> {
        let begun = Instant::now();
        while !folder.join("done").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing was started");
            thread::sleep(PAUSE);
        }
        let text = fs::read_to_string(folder.join("numbers")).expect("numbers");
        text.lines().map(str::to_owned).collect()
    }

    /// Whether a process is there, and is no mere entry that nobody has asked about.
    fn lives(number: &str) -> bool {
        let said = Command::new("ps").args(["-o", "stat=", "-p", number]).output().expect("ps");
        let state = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        !state.is_empty() && !state.starts_with('Z')
    }

    #[test]
    fn the_last_line_is_the_problem() {
        for (script, wanted) in [
            ("echo first >&2; printf 'a\\033[2J\\tlast \\n\\n' >&2; exit 4", "a [2J last"),
            ("yes x | head -c 100000 | tr -d '\\n' >&2; exit 1", &*"x".repeat(LONGEST)),
            ("exit 4", "it ended with exit status: 4"),
        ] {
            let (mut child, _folder) = shell(script, 60.0, &|| false);
            let status = child.wait().unwrap();
            assert_eq!(child.problem(status), wanted, "{script}");
        }
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let begun = Instant::now();
        let (mut child, _folder) = shell("exec sleep 100", 0.05, &|| false);
        assert_eq!(child.wait().unwrap_err(), "it took more than 0 seconds");
        drop(child);
        assert!(begun.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn what_a_program_started_ends_with_it() {
        const STARTS: &str = "sleep 100 & echo $! > numbers; echo $$ >> numbers; : > done";
        let stopped = AtomicBool::new(false);
        let stop = || stopped.load(Ordering::Relaxed);
        // One that waits, and one that ends before what it started.
        for (ending, problem) in [("wait", Some("it was stopped")), ("exit 0", None)] {
            stopped.store(false, Ordering::Relaxed);
            let (mut child, folder) = shell(&format!("{STARTS}; {ending}"), 60.0, &stop);
            let numbers = numbers(folder.path());
            assert!(lives(&numbers[0]), "{ending}");
            stopped.store(problem.is_some(), Ordering::Relaxed);
            assert_eq!(child.wait().err().as_deref(), problem);
            drop(child);
            // A process that was killed is gone a moment later.
            let begun = Instant::now();
            while numbers.iter().any(|number| lives(number)) {
                assert!(begun.elapsed() < Duration::from_secs(20), "{ending}: {numbers:?} live");
                thread::sleep(PAUSE);
            }
        }
    }
}
