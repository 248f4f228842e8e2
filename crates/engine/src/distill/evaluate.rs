//! Evaluation: logits, metrics over a data set, latency and throughput.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::{PADDING, TERMS};

use super::embeddings::mean_cosine;
use super::plans::shapes;
use super::program::{self, LABELS, LOGITS, TEACHER_LOGITS, TeacherInput};
use super::teacher::{Named, Teacher};
use super::{Metrics, Scores};
use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::models::{BatchShape, Feed, HostBatch, Input, ModelConfig};
use crate::plan::Plan;
use crate::scratch::Scratch;
use crate::store::{Part, Store, StorePart};

/// Rows of one evaluation batch: a text has many tokens.
pub fn rows(config: &ModelConfig) -> usize {
    match config.input {
        Input::Numbers { .. } => 256,
        Input::Tokens(_) => 32,
    }
}

/// The shapes of the batches whose speed is measured.
pub(super) fn speed_shapes(config: &ModelConfig, data: &Feed<'_>) -> BTreeSet<BatchShape> {
    [1, rows(config)].map(|rows| data.shape(&data.sample(rows), rows)).into()
}

/// Speed of a model's forward pass on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Median time of one example, from host memory to host memory.
    pub latency: Duration,
    /// Examples a second in batches of [`rows`], answers read back.
    pub examples_per_second: f64,
}

/// Runs a model forward over data. Plans are kept by batch shape and share the store; those of one pass share
/// their scratch memory too.
#[derive(Debug)]
pub struct Evaluator<'a> {
    config: &'a ModelConfig,
    store: &'a Store,
    scratch: Vec<Scratch>,
    programs: HashMap<Kind, ProgramId>,
    batch: HostBatch,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// Logits.
    Forward(BatchShape),
    /// Loss terms, the teacher's answers being given or not.
    Loss(BatchShape, bool),
}

impl<'a> Evaluator<'a> {
    /// Evaluates the model whose parameters are in `store`.
    pub fn new(config: &'a ModelConfig, store: &'a Store) -> Self {
        let (scratch, programs, batch) = (Vec::new(), HashMap::new(), HostBatch::default());
        Self { config, store, scratch, programs, batch }
    }

    /// Takes over a loaded plan of a measurement, by shape and by whether the teacher's answers are given.
    pub(super) fn lend(
        &mut self,
        (shape, given): (BatchShape, bool),
        program: ProgramId,
    ) -> Result<(), Error> {
        let kind = match self.config.embeds() {
            true => Kind::Forward(shape),
            false => Kind::Loss(shape, given),
        };
        self.programs.insert(kind, program);
        Ok(())
    }

    /// Loads the plans that are not there yet.
    fn prepare(
        &mut self,
        device: &mut dyn Device,
        kinds: impl IntoIterator<Item = Kind>,
    ) -> Result<(), Error> {
        let missing: BTreeSet<Kind> =
            kinds.into_iter().filter(|kind| !self.programs.contains_key(kind)).collect();
        let plan = |kind: &Kind| match *kind {
            Kind::Forward(shape) => program::forward_plan(self.config, shape),
            Kind::Loss(shape, given) => {
                let answers = if given { TeacherInput::Given } else { TeacherInput::None };
                program::loss_plan(self.config, answers, shape)
            }
        };
        let plans: Vec<Plan> = missing.iter().map(plan).collect::<Result<_, _>>()?;
        let scratch = Scratch::new(device, &plans)?;
        let mut loaded = missing.into_iter().zip(plans).map(|(kind, plan)| {
            let place = |part: StorePart| {
                scratch.buffer(part).or_else(|| self.store.buffer(part.part, part.segment))
            };
            Ok::<_, Error>((kind, device.load(&Scratch::shared(plan), &place)?))
        });
        let failed = loaded.try_for_each(|loaded| {
            let (kind, program) = loaded?;
            self.programs.insert(kind, program);
            Ok(())
        });
        self.scratch.push(scratch);
        failed
    }

    /// Raw logits [examples, classes], or embeddings [examples, hidden_size].
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, Error> {
        let (rows, classes) = (rows(self.config), self.config.answer_len());
        let mut logits = vec![0.0; data.len() * classes];
        self.prepare(device, shapes(self.config, data).into_iter().map(Kind::Forward))?;
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.programs[&Kind::Forward(shape)];
            data.fill(&batch, shape, None, &mut self.batch);
            let inputs: Vec<Named<'_>> = self.batch.inputs().collect();
            device.run(program, &StepState::default(), &inputs)?;
            let answers = device.output(program, LOGITS)?;
            for (answer, &index) in answers.chunks_exact(classes).zip(&batch) {
                logits[index as usize * classes..][..classes].copy_from_slice(answer);
            }
            progress(batch.len());
        }
        Ok(logits)
    }

    /// Metrics over a data set with these labels; with the teacher's raw logits for it, agreement and the soft
    /// term too. Of a model that embeds, how near it is to the teacher's embeddings.
    ///
    /// # Errors
    /// When the device fails.
    pub fn metrics(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
        labels: &[i32],
        teacher: Option<&[f32]>,
        temperature: f32,
        alpha: f32,
    ) -> Result<Metrics, Error> {
        if self.config.embeds() {
            let (ours, width) = (self.logits(device, data, &mut |_| ())?, self.config.answer_len());
            let theirs = teacher.filter(|theirs| theirs.len() == ours.len());
            return Ok(Metrics::of_embeddings(
                theirs.map(|theirs| mean_cosine(&ours, theirs, width)),
            ));
        }
        let (rows, classes) = (rows(self.config), self.config.classes());
        let given = teacher.is_some();
        set_metrics(device, self.store, &[0.0; TERMS])?;
        let kinds = shapes(self.config, data).into_iter().map(|shape| Kind::Loss(shape, given));
        self.prepare(device, kinds)?;
        let state = StepState { temperature, alpha, ..StepState::default() };
        let mut known = HostBatch::default();
        let mut scores = Scores::new(classes);
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.programs[&Kind::Loss(shape, given)];
            data.fill(&batch, shape, None, &mut self.batch);
            fill_labels(&mut known, &batch, labels, rows);
            if let Some(values) = teacher {
                let answers = known.floats(TEACHER_LOGITS, rows * classes);
                Teacher::gather(values, classes, &batch, answers);
            }
            let inputs: Vec<Named<'_>> = self.batch.inputs().chain(known.inputs()).collect();
            device.run(program, &state, &inputs)?;
            let labels: Vec<i32> = batch.iter().map(|&row| labels[row as usize]).collect();
            scores.add(&device.output(program, LOGITS)?, &labels);
        }
        let sums = metric_sums(device, self.store)?;
        Ok(Metrics::from_sums(&sums, alpha).with_scores(&scores))
    }

    /// Measures latency and throughput on examples of a data set.
    ///
    /// # Errors
    /// When the device fails.
    pub fn speed(&mut self, device: &mut dyn Device, data: &Feed<'_>) -> Result<Speed, Error> {
        let rows = rows(self.config);
        self.prepare(device, speed_shapes(self.config, data).into_iter().map(Kind::Forward))?;
        let one = self.time(device, data, 1, 20, Duration::from_millis(200))?;
        let many = self.time(device, data, rows, 3, Duration::from_millis(300))?;
        Ok(Speed { latency: one, examples_per_second: rows as f64 / many.as_secs_f64() })
    }

    /// Median time of a forward pass over `rows` examples, after two passes that count for nothing.
    fn time(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
        rows: usize,
        least: usize,
        budget: Duration,
    ) -> Result<Duration, Error> {
        let indices = data.sample(rows);
        let shape = data.shape(&indices, rows);
        let program = self.programs[&Kind::Forward(shape)];
        data.fill(&indices, shape, None, &mut self.batch);
        let inputs: Vec<Named<'_>> = self.batch.inputs().collect();
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < least + 2 || start.elapsed() < budget {
            let pass = Instant::now();
            device.run(program, &StepState::default(), &inputs)?;
            device.output(program, LOGITS)?;
            times.push(pass.elapsed());
        }
        let counted = &mut times[2..];
        counted.sort_unstable();
        Ok(counted[counted.len() / 2])
    }

    /// Unloads the plans.
    pub fn close(self, device: &mut dyn Device) {
        self.programs.into_values().for_each(|program| device.unload(program));
        self.scratch.into_iter().for_each(|scratch| scratch.free(device));
    }
}

/// Writes the labels of these examples; rows behind them are padding.
pub(super) fn fill_labels(batch: &mut HostBatch, indices: &[u32], labels: &[i32], rows: usize) {
    let out = batch.integers(LABELS, rows);
    out.fill(PADDING);
    for (out, &index) in out.iter_mut().zip(indices) {
        *out = labels[index as usize];
    }
}

/// Sets a store's metric sums.
pub(super) fn set_metrics(
    device: &mut dyn Device,
    store: &Store,
    sums: &[f32; TERMS],
) -> Result<(), Error> {
    let id = store.buffer(Part::Metrics, 0).expect("stores of models keep metrics");
    device.write(id, 0, sums)
}

/// Reads a store's metric sums.
pub(super) fn metric_sums(device: &mut dyn Device, store: &Store) -> Result<[f32; TERMS], Error> {
    let id = store.buffer(Part::Metrics, 0).expect("stores of models keep metrics");
    let sums = device.read(id, 0, TERMS)?;
    Ok(sums.try_into().expect("as many sums as were asked for"))
}

/// Wrong answers of logits [examples, classes] for each true class.
pub fn errors_per_class(
    logits: &[f32],
    labels: &[i32],
    classes: usize,
    bias: Option<(usize, f32)>,
) -> Vec<usize> {
    let mut errors = vec![0; classes];
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let shifted = |class: usize| {
            row[class] + bias.filter(|(only, _)| *only == class).map_or(0.0, |(_, shift)| shift)
        };
        let best = (1..classes)
            .fold(0, |best, class| if shifted(class) > shifted(best) { class } else { best });
        if let Ok(label) = usize::try_from(label) {
            errors[label] += usize::from(best != label);
        }
    }
    errors
}
