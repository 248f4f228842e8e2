//! What a run or a sweep works with, and what of it is finished: with the checkpoints, all that it needs to go on
//! after an interruption.
//!
//! The journal lies in the folder and stays there: it is what the folder of a run is known by, and it names the files
//! that the run wrote. While the run works, a copy lies beside the checkpoints, so that damage to one of the two costs
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_kernels::vector_instructions;
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Split, Texts};
use crate::device::{Choices, Device, DeviceInfo, DeviceKind};
use crate::error::Error;
use crate::files::{make_folder, remove_temporary};
use crate::results::{Arm, ArmReport, JOURNAL};
use crate::run::grid::Grid;
use crate::run::settings::Settings;
use crate::sealed::{self, Files};
use crate::train::checkpoint;

/// What this program writes and reads.
const FORMAT: u32 = 1;

/// What works in the folder, how, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    #[serde(skip)]
    folder: PathBuf,
    format: u32,
    /// Whether nothing is left to do.
    finished: bool,
    /// Digests of training, test and validation data.
    data: [u32; 3],
    /// The device: on another one, no bit is promised.
    device: String,
    /// The variants of kernels that it ran: with others, no bit is promised either.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub choices: Choices,
    /// What is trained with, as of now.
    settings: Settings,
    /// What is swept; absent for a run.
    grid: Option<Grid>,
    /// Time that a run has taken up to the last finished arm.
    pub seconds: f64,
    /// What a reader of the results should know.
    pub warnings: Vec<String>,
    /// The files of each arm's model, from before they take their place.
    files: BTreeMap<Arm, Files>,
    arms: BTreeMap<Arm, Finished>,
}

/// An arm that is finished.
#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    report: ArmReport,
    /// What it was trained with.
    settings: Settings,
}

impl Journal {
    /// Begins the journal of a new run, or of a sweep over a grid.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn begin(
        folder: &Path,
        settings: Settings,
        grid: Option<&Grid>,
        split: &Split,
        device: &dyn Device,
    ) -> Result<Self, Error> {
        let journal = Self {
            folder: folder.to_owned(),
            format: FORMAT,
            finished: false,
            data: digests(split),
            device: describe(device.info()),
            choices: device.choices(),
            settings,
            grid: grid.cloned(),
            seconds: 0.0,
            warnings: Vec::new(),
            files: BTreeMap::new(),
            arms: BTreeMap::new(),
        };
        journal.write()?;
        Ok(journal)
    }

    /// Reads the journal of a folder, or its copy where it is damaged, with a note about that; none where there are
    /// neither.
    ///
    /// # Errors
    /// [`Error::Run`] when both are damaged or another version of the program wrote them.
    pub fn read(folder: &Path) -> Result<Option<(Self, Option<String>)>, Error> {
        let places = [folder.join(JOURNAL), folder.join(checkpoint::FOLDER).join(JOURNAL)];
        let mut problem = None;
        for path in places.iter().filter(|path| path.exists()) {
            match sealed::read::<Self>(path) {
                Ok(journal) if journal.format != FORMAT => {
                    let format = journal.format;
                    return Err(bad(
                        path,
                        format!("it has format {format}, and this version reads {FORMAT}"),
                    ));
                }
                Ok(journal) => {
                    let folder = folder.to_owned();
                    return Ok(Some((Self { folder, ..journal }, problem.map(|(_, note)| note))));
                }
                Err(reason) => {
                    let note = format!("{} is damaged ({reason})", path.display());
                    problem.get_or_insert((path, format!("{note}: its copy is used")));
                }
            }
        }
        match problem {
            None => Ok(None),
            Some((path, _)) => {
                let reason = sealed::read::<Self>(path).err().unwrap_or_default();
                let problem = format!(
                    "the journal is damaged ({reason}), and there is no whole copy of it: move the folder away and \
                     begin anew"
                );
                Err(bad(path, problem))
            }
        }
    }

    /// Opens the journal of an interrupted run or, with `sweeps`, of a sweep; with notes about what is damaged. What
    /// was being written when it stopped is cleared away.
    ///
    /// # Errors
    /// [`Error::Run`] when there is none that could go on.
    pub fn resume(folder: &Path, sweeps: bool) -> Result<(Self, Vec<String>), Error> {
        let (found, what) =
            if sweeps { ("sweep", "runs/default-sweep") } else { ("run", "runs/default") };
        let Some((mut journal, note)) = Self::read(folder)? else {
            let problem =
                format!("no interrupted {found} is here: give the folder of one, as {what}");
            return Err(bad(folder, problem));
        };
        if journal.grid.is_some() != sweeps {
            let other = if sweeps { "run" } else { "sweep" };
            let problem = format!(
                "this is the folder of a {other}: go on with `distil-gpu {other} --resume {}`",
                folder.display()
            );
            return Err(bad(folder, problem));
        }
        if journal.finished && !sweeps {
            return Err(bad(folder, "this run is finished: there is nothing to resume"));
        }
        let places = Arm::ALL.map(|arm| folder.join(arm.folder()));
        for place in [folder, &folder.join(checkpoint::FOLDER)]
            .into_iter()
            .chain(places.iter().map(|p| &**p))
        {
            remove_temporary(place)?;
        }
        let mut notes: Vec<String> = note.into_iter().collect();
        for arm in Arm::ALL {
            let Some(files) = journal.files.get(&arm) else { continue };
            if !journal.arms.contains_key(&arm) {
                continue;
            }
            if let Some(path) = files.damaged(&folder.join(arm.folder())) {
                journal.arms.remove(&arm);
                let (path, title) = (path.display(), arm.title());
                notes.push(format!("{path} is damaged or gone: the {title} is made again"));
            }
        }
        Ok((journal, notes))
    }

    /// Goes on with these settings and this grid, which must be those that it began with unless changes are accepted.
    /// `done` says what was trained with the old ones. Returns whether something has changed.
    ///
    /// # Errors
    /// [`Error::Run`] with all differences.
    pub fn go_on(
        &mut self,
        settings: Settings,
        grid: Option<&Grid>,
        accept: bool,
        done: &[String],
    ) -> Result<bool, Error> {
        let mut changes = self.settings.changes(&settings);
        let shown = |grid: Option<&Grid>| grid.map_or(String::new(), Grid::to_string);
        if self.grid.as_ref() != grid {
            let (old, new) = (shown(self.grid.as_ref()), shown(grid));
            changes.push(format!("the grid: {old} → {new}"));
        }
        if changes.is_empty() {
            return Ok(false);
        }
        self.accept("the recipe has changed", &changes, accept, done)?;
        self.settings = settings;
        self.grid = grid.cloned();
        Ok(true)
    }

    /// Goes on with these data, which must be those that it began with unless changes are accepted.
    ///
    /// # Errors
    /// As [`Journal::go_on`].
    pub fn go_on_with(
        &mut self,
        split: &Split,
        accept: bool,
        done: &[String],
    ) -> Result<bool, Error> {
        let names = ["training", "test", "validation"].into_iter();
        let now = digests(split);
        let pairs = names.zip(self.data.into_iter().zip(now));
        let changes: Vec<String> = pairs
            .filter(|(_, (old, new))| old != new)
            .map(|(name, _)| format!("the {name} data"))
            .collect();
        if changes.is_empty() {
            return Ok(false);
        }
        self.accept("the data have changed", &changes, accept, done)?;
        self.data = now;
        Ok(true)
    }

    fn accept(
        &mut self,
        what: &str,
        changes: &[String],
        accept: bool,
        done: &[String],
    ) -> Result<(), Error> {
        let changes = changes.join("; ");
        if !accept {
            let problem = format!(
                "{what} since this began: {changes}. Take that back, or go on with --accept-changes, and the report \
                 will say so"
            );
            return Err(bad(&self.folder, problem));
        }
        let done = match done {
            [] => "nothing was trained before".to_owned(),
            done => format!("trained before: {}", done.join(", ")),
        };
        self.warnings.push(format!("When this was resumed, {what}: {changes}; {done}"));
        Ok(())
    }

    /// Goes on on this device; returns what to say of it if it is another than before.
    pub fn go_on_on(&mut self, device: &DeviceInfo) -> Option<String> {
        let before = std::mem::replace(&mut self.device, describe(device));
        (before != self.device).then(|| {
            let what = if self.grid.is_some() { "sweep" } else { "run" };
            let now = &self.device;
            format!(
                "This {what} began on {before}; on {now} its numbers may differ in the last bits"
            )
        })
    }

    /// What was measured of an arm, if it is finished.
    pub fn finished(&self, arm: Arm) -> Option<&ArmReport> {
        self.arms.get(&arm).map(|finished| &finished.report)
    }

    /// The files of an arm's model.
    pub fn files(&self, arm: Arm) -> Option<&Files> {
        self.files.get(&arm)
    }

    /// An arm's model is about to take its place.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn saving(&mut self, arm: Arm, files: &Files) -> Result<(), Error> {
        self.files.insert(arm, files.clone());
        self.write()
    }

    /// An arm is finished, `seconds` after the run began.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn finish(&mut self, arm: Arm, report: &ArmReport, seconds: f64) -> Result<(), Error> {
        self.seconds = seconds;
        let settings = self.settings.clone().of_arm(arm);
        self.arms.insert(arm, Finished { report: report.clone(), settings });
        self.write()
    }

    /// Nothing is left to do: the copy goes.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn end(mut self) -> Result<(), Error> {
        self.finished = true;
        sealed::write(&self.folder.join(JOURNAL), &self)?;
        let copies = self.folder.join(checkpoint::FOLDER);
        sealed::remove_file(&copies.join(JOURNAL))?;
        _ = fs::remove_dir(copies);
        Ok(())
    }

    /// Writes the journal, then its copy: one of them is whole at any time.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self) -> Result<(), Error> {
        sealed::write(&self.folder.join(JOURNAL), self)?;
        let copies = self.folder.join(checkpoint::FOLDER);
        make_folder(&copies)?;
        sealed::write(&copies.join(JOURNAL), self)
    }
}

fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Run { path: path.display().to_string(), problem: problem.into() }
}

fn digests(split: &Split) -> [u32; 3] {
    let validation = split.validation.as_ref().map_or(0, Dataset::digest);
    let unlabelled = split.unlabelled.as_ref().map_or(0, Texts::digest);
    [split.train.digest() ^ unlabelled, split.test.digest(), validation]
}

/// All of a device that its bits depend on: of the processor its instructions, and not the number of threads.
fn describe(device: &DeviceInfo) -> String {
    if device.kind == DeviceKind::Cpu {
        return format!("a processor with {}", vector_instructions());
    }
    format!("{} {} {}", device.name, device.backend, device.driver).trim_end().to_owned()
}
