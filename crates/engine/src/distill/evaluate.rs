//! Evaluation: logits, metrics over a data set, latency and throughput.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::{PADDING, TERMS};

use super::program::{self, LABELS, LOGITS, TEACHER_LOGITS, TeacherInput};
use super::teacher::{Named, Teacher};
use super::{Metrics, Scores};
use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::models::{BatchShape, Feed, HostBatch, Input, ModelConfig};
use crate::plan::Plan;
use crate::store::{Part, Store};

/// Rows of one evaluation batch: a text has many tokens.
pub fn rows(config: &ModelConfig) -> usize {
    match config.input {
        Input::Numbers { .. } => 256,
        Input::Tokens(_) => 32,
    }
}

/// Speed of a model's forward pass on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Median time of one example, from host memory to host memory.
    pub latency: Duration,
    /// Examples a second in batches of [`rows`], answers read back.
    pub examples_per_second: f64,
}

/// Runs a model forward over data. Plans are kept by batch shape and share the store.
#[derive(Debug)]
pub struct Evaluator<'a> {
    config: &'a ModelConfig,
    store: &'a Store,
    forward: HashMap<BatchShape, ProgramId>,
    loss: HashMap<(BatchShape, bool), ProgramId>,
    batch: HostBatch,
}

impl<'a> Evaluator<'a> {
    /// Evaluates the model whose parameters are in `store`.
    pub fn new(config: &'a ModelConfig, store: &'a Store) -> Self {
        let batch = HostBatch::default();
        Self { config, store, forward: HashMap::new(), loss: HashMap::new(), batch }
    }

    fn load(&self, device: &mut dyn Device, plan: &Plan) -> Result<ProgramId, Error> {
        device.load(plan, &|part| self.store.buffer(part.part, part.segment))
    }

    fn forward(&mut self, device: &mut dyn Device, shape: BatchShape) -> Result<ProgramId, Error> {
        if let Some(&known) = self.forward.get(&shape) {
            return Ok(known);
        }
        let program = self.load(device, &program::forward_plan(self.config, shape)?)?;
        self.forward.insert(shape, program);
        Ok(program)
    }

    fn loss(
        &mut self,
        device: &mut dyn Device,
        shape: BatchShape,
        given: bool,
    ) -> Result<ProgramId, Error> {
        if let Some(&known) = self.loss.get(&(shape, given)) {
            return Ok(known);
        }
        let input = if given { TeacherInput::Given } else { TeacherInput::None };
        let program = self.load(device, &program::loss_plan(self.config, input, shape)?)?;
        self.loss.insert((shape, given), program);
        Ok(program)
    }

    /// Raw logits [examples, classes].
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, Error> {
        let (rows, classes) = (rows(self.config), self.config.classes());
        let mut logits = vec![0.0; data.len() * classes];
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.forward(device, shape)?;
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
    /// term too.
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
        let (rows, classes) = (rows(self.config), self.config.classes());
        let given = teacher.is_some();
        set_metrics(device, self.store, &[0.0; TERMS])?;
        let state = StepState { temperature, alpha, ..StepState::default() };
        let mut known = HostBatch::default();
        let mut scores = Scores::new(classes);
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.loss(device, shape, given)?;
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
        let program = self.forward(device, shape)?;
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
        for program in self.forward.into_values().chain(self.loss.into_values()) {
            device.unload(program);
        }
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
