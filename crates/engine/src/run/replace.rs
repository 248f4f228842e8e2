//! What `--force` removes: what a run or sweep of this program wrote into a folder, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::{TEMPORARY, io_error, remove_temporary};
use crate::measure::influence::INFLUENCE;
use crate::measure::ranking::RANKING;
use crate::models;
use crate::results::{self, Arm, PAGE, REPORT, SWEEP, SWEEP_PAGE};
use crate::run::cut::CUTS;
use crate::run::journal::Journal;
use crate::run::place::Place;
use crate::run::{GRID, lock, log, tensorboard};
use crate::sealed::remove_file;
use crate::train::Checkpoints;

/// Folders of a sweep that hold a folder for each model.
const GROUPS: [&str; 2] = ["controls", "students"];

/// Whether a folder holds anything but what a killed program may leave before its journal.
pub(crate) fn is_used(folder: &Path) -> bool {
    let is_left = |name: &str| name == lock::NAME || name.starts_with(TEMPORARY);
    folder.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| !is_left(&entry.file_name().to_string_lossy()))
    })
}

/// The journal of what may be replaced in a folder; none where nothing is in it. The model in `spared`, if it is one of
/// the run's, stays.
///
/// # Errors
/// [`Error::Run`] when the files are not known to be those of a run or a sweep, or one is in the way that is not.
pub(crate) fn check(folder: &Path, spared: Option<&Path>) -> Result<Option<Journal>, Error> {
    if !is_used(folder) {
        return Ok(None);
    }
    let bad = |path: PathBuf, problem: &str| {
        Err(Error::Run { path: path.display().to_string(), problem: problem.to_owned() })
    };
    let Some((journal, _)) = Journal::read(folder)? else {
        let problem = "holds files, and no journal says that a run of this program wrote them: choose another \
                       folder (--out), or take them away yourself";
        return bad(folder.to_owned(), problem);
    };
    for (arm, place) in replaced_arms(folder, spared) {
        let (of_run, of_sweep) = (journal.files(arm), Place::files_of(&place));
        let mut known = of_run.iter().flat_map(|files| files.paths()).chain(of_sweep.paths());
        let mut is_known = |name: &str| known.any(|path| path == name);
        for name in [models::CONFIG, models::WEIGHTS, models::LINK] {
            let path = place.join(name);
            if path.exists() && !is_known(name) {
                let problem = "the run in this folder did not write this file: move it away first";
                return bad(path, problem);
            }
        }
        let finished = journal.finished(arm).and(journal.files(arm));
        if let Some(path) = finished.unwrap_or(&of_sweep).altered(&place) {
            let problem =
                "it is not as the run in this folder wrote it: move it away first, or delete it";
            return bad(path, problem);
        }
    }
    Ok(Some(journal))
}

/// The arms' folders but for one that holds the teacher of the run that begins.
fn replaced_arms(folder: &Path, spared: Option<&Path>) -> Vec<(Arm, PathBuf)> {
    let place = |arm: Arm| (arm, folder.join(arm.folder()));
    let is_replaced = |(_, place): &(Arm, PathBuf)| {
        spared.is_none() || place.canonicalize().ok().as_deref() != spared
    };
    Arm::ALL.map(place).into_iter().filter(is_replaced).collect()
}

/// Deletes what the run or sweep of this journal wrote but for its recipe and the journal, by which the folder stays
/// known and which the next one replaces.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn clear(folder: &Path, journal: &Journal, spared: Option<&Path>) -> Result<(), Error> {
    remove_temporary(folder)?;
    Checkpoints::new(folder, 0.0).remove()?;
    tensorboard::remove(folder)?;
    let shown =
        [results::answers::FILE, results::guesses::FILE, results::texts::FILE, results::WRITTEN];
    let found = [INFLUENCE, RANKING, results::exports::FILE];
    let own = [REPORT, PAGE, log::NAME, SWEEP, SWEEP_PAGE, GRID, CUTS];
    for name in shown.into_iter().chain(found).chain(own) {
        remove_file(&folder.join(name))?;
    }
    for (arm, place) in replaced_arms(folder, spared) {
        Place::remove(&place)?;
        if let Some(files) = journal.files(arm) {
            files.remove(&place)?;
        }
    }
    for group in GROUPS.map(|name| folder.join(name)) {
        for place in numbered(&group)? {
            Place::remove(&place)?;
        }
        _ = fs::remove_dir(&group);
    }
    Ok(())
}

/// The folders of models in a folder of a sweep, which are called by numbers.
fn numbered(group: &Path) -> Result<Vec<PathBuf>, Error> {
    if !group.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(group).map_err(io_error(group))?;
    let paths = entries.map(|entry| Ok(entry.map_err(io_error(group))?.path()));
    let is_number = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && name.bytes().all(|letter| letter.is_ascii_digit())
    };
    let paths = paths.collect::<Result<Vec<PathBuf>, Error>>()?;
    Ok(paths.into_iter().filter(is_number).collect())
}

/// Deletes the checkpoints of models of a sweep that are not finished: they begin anew.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn forget_unfinished(folder: &Path) -> Result<(), Error> {
    let mut places = vec![folder.join(Arm::Teacher.folder())];
    for group in GROUPS {
        places.extend(numbered(&folder.join(group))?);
    }
    for place in places.iter().filter(|place| place.is_dir() && Place::is_unfinished(place)) {
        Checkpoints::new(place, 0.0).remove()?;
    }
    Ok(())
}
