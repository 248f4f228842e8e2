//! The machine's own memory: what a run on the processor takes of it beside its device's buffers.

use std::fs;

use distil_gpu_kernels::DType;
use serde::Serialize;

use crate::data::text::TOGETHER;
use crate::data::{Dataset, Examples, Features, Text};
use crate::device::{DeviceInfo, DeviceKind};
use crate::error::Error;
use crate::models::{Input, ModelConfig, TokenInput};
use crate::recipe::{Keep, Recipe, Train};
use crate::results::Arm;
use crate::run::Setup;
use crate::store::{ParameterSpec, Part};
use crate::train::optimizer::update;
use crate::train::training_parts;

/// Of the program itself: its code as far as it is used, plans, and what the allocator keeps of small pieces.
const PROGRAM: u64 = 18 << 20;
/// Of each thread: what it packs of matrices, and what the allocator keeps for it.
const THREAD: u64 = 4 << 20;
/// So many threads take that; more than these are seldom at work at once. These three are measured, of runs of small
/// models with 1 to 32 threads.
const THREADS: usize = 7;
/// Of a tokenizer, for each of its tokens: its vocabulary by word and by number, and its merges. Measured of a WordPiece
/// vocabulary of 30,522 tokens.
const TOKEN: u64 = 330;
/// Of texts, for each of their bytes while they become tokens, as many at a time as are encoded together: what the
/// tokenizers crate tells of a token beside its number. The allocator keeps it afterwards. Measured of 44,806 English
/// sentences.
const ENCODED: u64 = 32;

/// Bytes of the machine's memory that a run takes at most, by purpose.
#[derive(Clone, Debug, Serialize)]
pub struct MainMemory {
    /// The program itself.
    pub program: u64,
    /// Examples, their tokens, and tokenizers.
    pub data: u64,
    /// Parameters that models start from, or that were loaded.
    pub models: u64,
    /// What the device's buffers take, with a copy of the parameters that are read from it, and of the best where they are
    /// kept: of the phase that takes most.
    pub work: u64,
    /// That phase.
    pub phase: String,
    /// What writing a checkpoint takes beyond all that, in trainings that are long enough to have one.
    pub checkpoint: u64,
    /// What the machine has, if the system tells.
    pub installed: Option<u64>,
}

impl MainMemory {
    /// All of it, while no checkpoint is written.
    pub fn total(&self) -> u64 {
        self.program + self.data + self.models + self.work
    }

    /// What the machine lacks.
    pub fn problem(&self) -> Option<String> {
        let installed = self.installed.filter(|&installed| self.total() > installed)?;
        Some(format!(
            "{} takes {} of memory, and this machine has {}: use a smaller batch or model, or an optimizer with fewer \
             moments (sgd with momentum = 0 has none)",
            self.phase,
            gigabytes(self.total()),
            gigabytes(installed),
        ))
    }
}

/// Bytes for people.
fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// What the machine has for this program; `None` where the system does not tell. Linux: all of its memory, or as much as
/// the program's control group may use.
pub fn installed() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let all: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    limits.into_iter().filter_map(limit).chain([1024 * all]).min()
}

impl Setup {
    /// What a run holds in memory all the time: examples with their tokens and tokenizers, and parameters.
    pub(crate) fn held_bytes(&self) -> [u64; 2] {
        let split = &self.split;
        let mut sets: Vec<&Dataset> = vec![&split.train, &split.test];
        sets.extend(&split.validation);
        if self.students.len() < split.train.len() {
            sets.push(&self.students);
        }
        let mut data: u64 = sets.iter().map(|set| bytes(set.examples())).sum();
        if let Some(texts) = &split.unlabelled {
            // Once by themselves, and behind the texts with labels.
            data += 2 * bytes(&texts.clone().into()) + bytes(self.students.examples());
        }
        let models = self.teacher.iter().chain([&self.student]);
        let tokens = models.filter_map(|config| match &config.input {
            Input::Tokens(TokenInput { tokenizer: Some(_), vocab_size, .. }) => Some(*vocab_size),
            _ => None,
        });
        data += TOKEN * tokens.sum::<usize>() as u64;
        sets.push(&self.transfer);
        data +=
            ENCODED * sets.iter().map(|set| letters_together(set.examples())).max().unwrap_or(0);
        [data, 4 * self.first_values() as u64]
    }
}

/// Bytes of the program itself, with its threads.
pub(super) fn program() -> u64 {
    PROGRAM + THREAD * rayon::current_num_threads().min(THREADS) as u64
}

/// Bytes of examples; of texts, with some tokens for each word.
fn bytes(examples: &Examples) -> u64 {
    match examples {
        Examples::Numbers(numbers) => match numbers.features() {
            Features::U8(pixels) => pixels.len() as u64,
            Features::F32(values) => 4 * values.len() as u64,
        },
        Examples::Texts(texts) => {
            let letters = letters(examples);
            // Two numbers a token, which has some five letters.
            letters + letters / 5 * 8 + (texts.len() * size_of::<Text>()) as u64
        }
        other => other.bytes() as u64,
    }
}

/// Bytes of the texts alone, if these are texts.
fn letters(examples: &Examples) -> u64 {
    let Examples::Texts(texts) = examples else { return 0 };
    texts.all().iter().map(length).sum()
}

/// The most bytes of texts that are encoded together.
fn letters_together(examples: &Examples) -> u64 {
    let Examples::Texts(texts) = examples else { return 0 };
    let rounds = texts.all().chunks(TOGETHER);
    rounds.map(|round| round.iter().map(length).sum()).max().unwrap_or(0)
}

fn length(text: &Text) -> u64 {
    (text.first.len() + text.second.as_ref().map_or(0, String::len)) as u64
}

/// Bytes of the best parameters so far, where a training keeps them.
pub(super) fn kept(parameters: usize, train: &Train) -> u64 {
    if train.keep == Keep::Best { 4 * parameters as u64 } else { 0 }
}

/// Bytes that a training's checkpoints take while one is written: its state, and the bytes of the file.
pub(crate) fn checkpoint(parts: &[Part], parameters: usize, train: &Train) -> u64 {
    let moments = parts.iter().filter(|part| matches!(part, Part::Moment1 | Part::Moment2)).count();
    2 * (4 * parameters as u64 * (1 + moments as u64) + kept(parameters, train))
}

/// Refuses a run on the processor whose parameters, gradients and moments alone are more than the machine's memory.
///
/// # Errors
/// [`Error::BeyondMemory`].
pub(crate) fn check(recipe: &Recipe, setup: &Setup, device: &DeviceInfo) -> Result<(), Error> {
    let Some(installed) = installed().filter(|_| device.kind == DeviceKind::Cpu) else {
        return Ok(());
    };
    let of = |config: &ModelConfig| 4 * config.parameter_count() as u64;
    let frozen = setup.teacher.as_ref().map_or(0, |config| {
        let specs = config.model().parameters().into_iter();
        let bytes = |(spec, dtype): (ParameterSpec, &DType)| dtype.bytes_of(spec.len()) as u64;
        specs.zip(&setup.teacher_types).map(bytes).sum()
    });
    let taught = setup.taught(recipe).map(|(config, train)| (Arm::Teacher, config, train, 0));
    let student = (Arm::Distilled, &setup.student, &recipe.train, frozen);
    for (arm, config, train, teacher) in taught.into_iter().chain([student]) {
        let (update, _) = update(train, config)?;
        let needed = of(config) * training_parts(&update).len() as u64 + teacher;
        if needed > installed {
            let [needed, installed] = [needed, installed].map(gigabytes);
            return Err(Error::BeyondMemory { arm: arm.title(), needed, installed });
        }
    }
    Ok(())
}
