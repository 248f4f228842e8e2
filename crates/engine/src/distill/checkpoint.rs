//! Checkpoints: what a training needs to go on as if it had never stopped.
//!
//! A checkpoint is one safetensors file in the run's folder `checkpoints`, written whole or not at all; the
//! last two of an arm are kept. Order of the data, shifts, dropout and learning rate follow from the recipe
//! and the number of the step, so parameters, moments and the epoch's sums are the whole state.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::loss_scale::LEN;

use super::Arm;
use crate::error::Error;
use crate::files::{io_error, save_tensors};
use crate::store::ParameterSpec;
use crate::tensor_file::TensorFile;

/// Folder of the checkpoints in a run's folder.
pub const FOLDER: &str = "checkpoints";
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
    /// Those of the losses of features; see [`super::Features::sums`].
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
    every: Duration,
    last: Instant,
    begun: Instant,
    cost: Duration,
}

impl Checkpoints {
    /// In `run`'s folder, at most every so many seconds; 0 writes them only where a run is told to stop.
    pub fn new(run: &Path, seconds: f32) -> Self {
        let every = match seconds > 0.0 {
            true => Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX),
            false => Duration::MAX,
        };
        let now = Instant::now();
        Self { folder: run.join(FOLDER), every, last: now, begun: now, cost: Duration::ZERO }
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

    /// The arm's checkpoints and their steps, the newest first.
    fn list(&self, arm: Arm) -> Result<Vec<(u32, PathBuf)>, Error> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io_error(&self.folder))? {
            let path = entry.map_err(io_error(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let step = name
                .strip_suffix(".safetensors")
                .and_then(|stem| stem.strip_prefix(arm.name()))
                .and_then(|step| step.strip_prefix('-')?.parse().ok());
            if let Some(step) = step {
                found.push((step, path));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Number of the step that each arm would go on with.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub fn steps(&self) -> Result<BTreeMap<Arm, u32>, Error> {
        let newest = |arm| Ok(self.list(arm)?.first().map(|(step, _)| (arm, *step)));
        Arm::ALL.into_iter().filter_map(|arm| newest(arm).transpose()).collect()
    }

    /// Writes a checkpoint; then all but the last two of the arm go.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; the checkpoints before it stay.
    pub fn save(&mut self, arm: Arm, specs: &[ParameterSpec], state: &State) -> Result<(), Error> {
        fs::create_dir_all(&self.folder).map_err(io_error(&self.folder))?;
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
        let path = self.folder.join(format!("{}-{}.safetensors", arm.name(), state.step));
        save_tensors(&path, &tensors, metadata)?;
        for (_, old) in self.list(arm)?.into_iter().skip(KEPT) {
            fs::remove_file(&old).map_err(io_error(&old))?;
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
        let Some((_, path)) = list.first() else { return Ok(None) };
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
        let mut list = self.list(arm)?.into_iter();
        list.try_for_each(|(_, path)| fs::remove_file(&path).map_err(io_error(&path)))
    }

    /// Deletes all of them.
    ///
    /// # Errors
    /// [`Error::Io`] naming the folder.
    pub fn remove(&self) -> Result<(), Error> {
        match self.folder.is_dir() {
            true => fs::remove_dir_all(&self.folder).map_err(io_error(&self.folder)),
            false => Ok(()),
        }
    }
}
