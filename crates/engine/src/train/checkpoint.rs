//! Checkpoints: what a training needs to go on as if it had never stopped.
//!
//! A checkpoint is one safetensors file in the run's folder `checkpoints`, written whole or not at all; the
//! last two of an arm are kept. Its name ends with the checksum of its bytes, which so comes and goes with it, and a
//! damaged one is passed over for the one before. Order of the data, shifts, dropout and learning rate follow from the recipe
//! and the number of the step, so parameters, moments and the epoch's sums are the whole state.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::loss_scale::LEN;

use crate::error::Error;
use crate::files::{
    bad, checksum, io_error, make_folder, remove_temporary, tensor_bytes, write_by_checksum,
};
use crate::results::{Arm, JOURNAL};
use crate::sealed::{hex, remove_file};
use crate::store::ParameterSpec;
use crate::tensor_file::TensorFile;

/// Folder of the checkpoints in a run's folder.
pub const FOLDER: &str = "checkpoints";
/// How the names of checkpoints begin that turned out to be damaged.
const DAMAGED: &str = "damaged-";
/// How all their names end.
const ENDING: &str = ".safetensors";
/// Checkpoints kept of each arm.
const KEPT: usize = 2;
/// Training takes at least so many times as long as the checkpoints in it: they cost less than 2 %.
const SHARE: u32 = 60;
const STEP: &str = "step";
const METRICS: &str = "metrics";
const FEATURES: &str = "features";
const LOSS_SCALE: &str = "loss_scale";
const PARAMETERS: &str = "parameters";
const BEST: &str = "best";
/// In a file's metadata: step, score and misses of the best.
const BEST_OF: [&str; 3] = ["best_step", "best_score", "best_missed"];
const MOMENTS: [&str; 2] = ["moment1", "moment2"];

/// What the next steps of a training depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Number of the next step, from 0.
    pub step: u32,
    /// Values of each parameter, in the model's order.
    pub parameters: Vec<Vec<f32>>,
    /// The optimizer's moments: momentum, or Adam's m and v; each in the order of the parameters.
    pub moments: Vec<Vec<Vec<f32>>>,
    /// Sums over the epoch so far.
    pub metrics: [f32; TERMS],
    /// Those of the losses of features; a sum for each.
    pub features: Vec<f32>,
    /// The scale of the loss and what goes with it, where it is scaled; see [`distil_gpu_kernels::loss_scale`].
    pub loss_scale: Option<[f32; LEN]>,
    /// The best so far, where it is kept.
    pub best: Option<Best>,
}

/// What the state of a training consists of.
#[derive(Clone, Copy, Debug)]
pub struct StateShape<'a> {
    /// The parameters.
    pub specs: &'a [ParameterSpec],
    /// Number of the optimizer's moments.
    pub moments: usize,
    /// Number of the losses of features.
    pub features: usize,
    /// Whether the loss is scaled.
    pub scales: bool,
}

/// The parameters that did best on the validation data.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// The steps that led to them.
    pub step: u32,
    /// How well they did: more is better.
    pub score: f64,
    /// Measurements since, none of which was better.
    pub missed: u32,
    /// Values of each parameter, in the model's order.
    pub parameters: Vec<Vec<f32>>,
}

impl State {
    /// Whether every number is one.
    pub fn is_finite(&self) -> bool {
        let all = self.parameters.iter().chain(self.moments.iter().flatten());
        all.flatten().chain(&self.metrics).chain(&self.features).all(|value| value.is_finite())
    }

    /// The first parameter that holds NaN or infinity, in itself or in its moments.
    pub fn first_not_finite(&self) -> Option<usize> {
        let bad = |values: &Vec<f32>| values.iter().any(|value| !value.is_finite());
        let place = |all: &Vec<Vec<f32>>| all.iter().position(bad);
        place(&self.parameters).or_else(|| self.moments.iter().filter_map(place).min())
    }
}

/// Writes and finds the checkpoints of one run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    /// The run's folder and what tells it from another one in its place.
    run: (PathBuf, Option<Identity>),
    every: Duration,
    last: Instant,
    begun: Instant,
    cost: Duration,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Saved {
    step: u32,
    /// Of its bytes, as the name says.
    checksum: String,
    path: PathBuf,
}

impl Saved {
    /// The arm's checkpoint of that name, if it is one.
    fn of(arm: Arm, path: PathBuf) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
        let (step, checksum) = stem.strip_prefix(arm.name())?.strip_prefix('-')?.split_once('-')?;
        Some(Self { step: step.parse().ok()?, checksum: checksum.to_owned(), path })
    }

    /// What is wrong with its bytes, if something is.
    fn problem(&self) -> Result<Option<String>, Error> {
        match checksum(&self.path) {
            Ok((_, found)) if hex(found) == self.checksum => Ok(None),
            Ok((len, found)) => Ok(Some(format!(
                "its {len} bytes have the checksum {}, not {}",
                hex(found),
                self.checksum
            ))),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(io_error(&self.path)(error))
            }
            Err(error) => Ok(Some(error.to_string())),
        }
    }
}

/// Tells a folder from another one of its name.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(folder: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Elsewhere a folder is known by its name alone.
#[cfg(not(unix))]
fn identity(folder: &Path) -> Option<Identity> {
    folder.is_dir().then_some((0, 0))
}

impl Checkpoints {
    /// In `run`'s folder, at most every so many seconds; 0 writes them only where a run is told to stop.
    pub fn new(run: &Path, seconds: f32) -> Self {
        let every = match seconds > 0.0 {
            true => Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX),
            false => Duration::MAX,
        };
        let now = Instant::now();
        let (folder, cost) = (run.join(FOLDER), Duration::ZERO);
        let run = (run.to_owned(), identity(run));
        Self { folder, run, every, last: now, begun: now, cost }
    }

    /// A training begins: time counts from now.
    pub fn start(&mut self) {
        self.last = Instant::now();
    }

    /// A checkpoint begins, before the state is read from the device: all that follows is its cost.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// Whether it is time for one.
    pub fn due(&self) -> bool {
        self.last.elapsed() >= self.every.max(self.cost.saturating_mul(SHARE))
    }

    /// The arm's checkpoints, the newest first.
    fn list(&self, arm: Arm) -> Result<Vec<Saved>, Error> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io_error(&self.folder))? {
            found.extend(Saved::of(arm, entry.map_err(io_error(&self.folder))?.path()));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Sets damaged checkpoints aside that are newer than the newest whole one of their arm, so that no training goes
    /// on from them; a note about each.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn set_damaged_aside(&self) -> Result<Vec<String>, Error> {
        let mut notes = Vec::new();
        for arm in Arm::ALL {
            let mut list = self.list(arm)?.into_iter().peekable();
            while let Some(saved) = list.next() {
                let Some(problem) = saved.problem()? else { break };
                let path = &saved.path;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let aside = self.folder.join(format!("{DAMAGED}{name}"));
                fs::rename(path, &aside).map_err(io_error(path))?;
                let instead = match list.peek() {
                    Some(before) => format!("the one before it, of step {}, is used", before.step),
                    None => format!("there is none before it, so the {} begins anew", arm.title()),
                };
                notes.push(format!(
                    "The checkpoint {} is damaged ({problem}): {instead}",
                    path.display()
                ));
            }
        }
        Ok(notes)
    }

    /// Number of the step that each arm would go on with.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub fn steps(&self) -> Result<BTreeMap<Arm, u32>, Error> {
        let newest = |arm| Ok(self.list(arm)?.first().map(|saved| (arm, saved.step)));
        Arm::ALL.into_iter().filter_map(|arm| newest(arm).transpose()).collect()
    }

    /// Refuses to go on where the run's folder is gone, or another is in its place: it must not come back with
    /// nothing but a checkpoint in it.
    ///
    /// # Errors
    /// [`Error::Run`] naming the folder.
    pub fn check_folder(&self) -> Result<(), Error> {
        let (run, known) = &self.run;
        let now = identity(run);
        if now.is_some() && now == *known {
            return Ok(());
        }
        let what = if now.is_some() { "another folder is in its place" } else { "it is gone" };
        let problem = format!(
            "{what} since this began, so nothing more can be saved: bring the folder back, or begin anew"
        );
        Err(Error::Run { path: run.display().to_string(), problem })
    }

    /// Writes a checkpoint; then all but the last two of the arm go.
    ///
    /// # Errors
    /// [`Error::Run`] when the run's folder is gone, or [`Error::Io`] naming the file; the checkpoints before it stay.
    pub fn save(&mut self, arm: Arm, specs: &[ParameterSpec], state: &State) -> Result<(), Error> {
        self.check_folder()?;
        // It may go while it is written to.
        self.write(arm, specs, state).or_else(|error| self.check_folder().and(Err(error)))
    }

    fn write(&mut self, arm: Arm, specs: &[ParameterSpec], state: &State) -> Result<(), Error> {
        make_folder(&self.folder)?;
        let mut tensors = vec![(METRICS.to_owned(), vec![TERMS], &state.metrics[..])];
        if !state.features.is_empty() {
            tensors.push((FEATURES.to_owned(), vec![state.features.len()], &state.features));
        }
        if let Some(scale) = &state.loss_scale {
            tensors.push((LOSS_SCALE.to_owned(), vec![LEN], scale));
        }
        let groups = [(PARAMETERS, &state.parameters)].into_iter();
        let groups = groups.chain(MOMENTS.into_iter().zip(&state.moments));
        for (group, values) in groups.chain(state.best.iter().map(|best| (BEST, &best.parameters)))
        {
            for (spec, values) in specs.iter().zip(values) {
                tensors.push((format!("{group}/{}", spec.name), spec.shape.clone(), values));
            }
        }
        let mut metadata = HashMap::from([(STEP.to_owned(), state.step.to_string())]);
        if let Some(Best { step, score, missed, .. }) = &state.best {
            // What is written of a float is read as the same.
            let values = [step.to_string(), score.to_string(), missed.to_string()];
            metadata.extend(BEST_OF.into_iter().map(str::to_owned).zip(values));
        }
        let stem = format!("{}-{}", arm.name(), state.step);
        let bytes = tensor_bytes(&self.folder.join(&stem), &tensors, metadata)?;
        let name = |checksum| format!("{stem}-{}{ENDING}", hex(checksum));
        write_by_checksum(&self.folder, &stem, &bytes, name)?;
        for old in self.list(arm)?.into_iter().skip(KEPT) {
            remove_file(&old.path)?;
        }
        self.cost = self.begun.elapsed();
        self.last = Instant::now();
        Ok(())
    }

    /// The arm's newest checkpoint, if it has one, of this shape.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file when it is damaged or of another model.
    pub fn latest(&self, arm: Arm, shape: &StateShape<'_>) -> Result<Option<State>, Error> {
        let StateShape { specs, moments, features, scales } = *shape;
        let list = self.list(arm)?;
        let Some(saved @ Saved { path, .. }) = list.first() else { return Ok(None) };
        if let Some(problem) = saved.problem()? {
            let problem = format!(
                "it is damaged ({problem}): delete it, and the checkpoint before it is used"
            );
            return Err(bad(path, problem));
        }
        let file = TensorFile::open(path)?;
        let read = |group: &str| {
            let tensor =
                |spec: &ParameterSpec| file.tensor(&format!("{group}/{}", spec.name), &spec.shape);
            specs.iter().map(tensor).collect::<Result<Vec<_>, Error>>()
        };
        let step = file.metadata(STEP).and_then(|step| step.parse().ok()).ok_or_else(|| {
            let problem = "its metadata lack the number of the step: delete it, and the checkpoint \
                           before it is used";
            Error::Model { path: path.display().to_string(), problem: problem.to_owned() }
        })?;
        let metrics = file.tensor(METRICS, &[TERMS])?;
        let features = match features {
            0 => Vec::new(),
            terms => file.tensor(FEATURES, &[terms])?,
        };
        let loss_scale = scales.then(|| file.tensor(LOSS_SCALE, &[LEN])).transpose()?;
        let [best_step, score, missed] = BEST_OF.map(|key| file.metadata(key));
        let best = match best_step {
            None => None,
            Some(step) => {
                let numbers =
                    (|| Some((step.parse().ok()?, score?.parse().ok()?, missed?.parse().ok()?)))();
                let (step, score, missed) = numbers.ok_or_else(|| {
                    let problem = "what its metadata tell of the best step is no number: delete it, and \
                                   the checkpoint before it is used";
                    Error::Model { path: path.display().to_string(), problem: problem.to_owned() }
                })?;
                Some(Best { step, score, missed, parameters: read(BEST)? })
            }
        };
        Ok(Some(State {
            step,
            parameters: read(PARAMETERS)?,
            moments: MOMENTS.into_iter().take(moments).map(read).collect::<Result<_, _>>()?,
            metrics: metrics.try_into().expect("the shape was checked"),
            features,
            loss_scale: loss_scale.map(|scale| scale.try_into().expect("the shape was checked")),
            best,
        }))
    }

    /// Deletes an arm's checkpoints: it is finished.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn clear(&self, arm: Arm) -> Result<(), Error> {
        self.list(arm)?.into_iter().try_for_each(|saved| remove_file(&saved.path))
    }

    /// Deletes all of them, and the folder, unless there is something else in it.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn remove(&self) -> Result<(), Error> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        remove_temporary(&self.folder)?;
        for entry in fs::read_dir(&self.folder).map_err(io_error(&self.folder))? {
            let path = entry.map_err(io_error(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let whole = self.folder.join(name.strip_prefix(DAMAGED).unwrap_or(&name));
            let is_ours = Arm::ALL.into_iter().any(|arm| Saved::of(arm, whole.clone()).is_some());
            if is_ours || name == JOURNAL {
                remove_file(&path)?;
            }
        }
        _ = fs::remove_dir(&self.folder);
        Ok(())
    }
}
