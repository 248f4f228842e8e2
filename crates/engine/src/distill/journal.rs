//! What a run has finished: with the checkpoints, all that it needs to go on after an interruption.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Arm;
use super::checkpoint;
use crate::data::{Dataset, Split, Texts};
use crate::device::{Choices, Device, DeviceInfo};
use crate::error::Error;
use crate::files::{io_error, remove_temporary, write_atomically};
use crate::report::ArmReport;

/// Name of the journal in the folder of the checkpoints.
const NAME: &str = "run.json";

/// The arms that are finished, and what the run works with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    #[serde(skip)]
    path: PathBuf,
    /// Digests of training, test and validation data: other data cannot be gone on with.
    data: [u32; 3],
    /// The device: on another one, no bit is promised.
    device: String,
    /// The variants of kernels that it ran: with others, no bit is promised either.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub choices: Choices,
    /// Time that the run has taken up to the last finished arm.
    pub seconds: f64,
    arms: BTreeMap<Arm, ArmReport>,
}

impl Journal {
    /// Begins the journal of a new run.
    pub fn begin(run: &Path, split: &Split, device: &dyn Device) -> Result<Self, Error> {
        let folder = run.join(checkpoint::FOLDER);
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let journal = Self {
            path: folder.join(NAME),
            data: digests(split),
            device: describe(device.info()),
            choices: device.choices(),
            seconds: 0.0,
            arms: BTreeMap::new(),
        };
        journal.write()?;
        Ok(journal)
    }

    /// Opens the journal of an interrupted run, and clears away what was being written when it stopped.
    /// Returns the device that it ran on too, if that is another.
    ///
    /// # Errors
    /// [`Error::Model`] when there is none or the data are others.
    pub fn open(
        run: &Path,
        split: &Split,
        device: &DeviceInfo,
    ) -> Result<(Self, Option<String>), Error> {
        let path = run.join(checkpoint::FOLDER).join(NAME);
        let bad = |path: &Path, problem: String| {
            Err(Error::Model { path: path.display().to_string(), problem })
        };
        if !path.is_file() {
            let problem = match run.join("report.json").is_file() {
                true => "this run is finished: there is nothing to resume",
                false => "no interrupted run is here: give the folder of one, as runs/default",
            };
            return bad(run, problem.to_owned());
        }
        let text = fs::read_to_string(&path).map_err(io_error(&path))?;
        let mut journal: Self = match serde_json::from_str(&text) {
            Ok(journal) => journal,
            Err(error) => return bad(&path, format!("not the journal of a run: {error}")),
        };
        if journal.data != digests(split) {
            let problem = "the data have changed since this run began: bring the old data back, or \
                           start anew";
            return bad(run, problem.to_owned());
        }
        let arms = Arm::ALL.map(|arm| run.join(arm.folder()));
        for folder in
            [run, &run.join(checkpoint::FOLDER)].into_iter().chain(arms.iter().map(|p| &**p))
        {
            remove_temporary(folder)?;
        }
        let before = std::mem::replace(&mut journal.device, describe(device));
        let other = (before != journal.device).then_some(before);
        Ok((Self { path, ..journal }, other))
    }

    /// What was measured of an arm, if it is finished.
    pub fn finished(&self, arm: Arm) -> Option<&ArmReport> {
        self.arms.get(&arm)
    }

    /// An arm is finished, `seconds` after the run began.
    pub fn finish(&mut self, arm: Arm, report: &ArmReport, seconds: f64) -> Result<(), Error> {
        self.seconds = seconds;
        self.arms.insert(arm, report.clone());
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).expect("a journal is plain data");
        write_atomically(&self.path, format!("{json}\n").as_bytes())
    }
}

fn digests(split: &Split) -> [u32; 3] {
    let validation = split.validation.as_ref().map_or(0, Dataset::digest);
    let unlabelled = split.unlabelled.as_ref().map_or(0, Texts::digest);
    [split.train.digest() ^ unlabelled, split.test.digest(), validation]
}

fn describe(device: &DeviceInfo) -> String {
    format!("{} {} {}", device.name, device.backend, device.driver).trim_end().to_owned()
}
