//! Evaluation: logits, metrics over a data set, latency and throughput.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::{PADDING, TERMS};

use super::Metrics;
use super::program::{self, FEATURES, LABELS, LOGITS, TEACHER_LOGITS, TeacherInput};
use super::teacher::Teacher;
use crate::data::{Dataset, Examples};
use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::models::ModelConfig;
use crate::plan::Plan;
use crate::store::{Part, Store};

/// Rows of one evaluation batch.
pub(super) const ROWS: usize = 256;

/// Speed of a model's forward pass on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Median time of one example, from host memory to host memory.
    pub latency: Duration,
    /// Examples a second in batches of 256, answers read back.
    pub examples_per_second: f64,
}

/// Runs a model forward over data. Plans are kept by batch shape and share the store.
#[derive(Debug)]
pub struct Evaluator<'a> {
    config: &'a ModelConfig,
    store: &'a Store,
    forward: HashMap<usize, ProgramId>,
    loss: HashMap<bool, ProgramId>,
    features: Vec<f32>,
}

impl<'a> Evaluator<'a> {
    /// Evaluates the model whose parameters are in `store`.
    pub fn new(config: &'a ModelConfig, store: &'a Store) -> Self {
        let features = vec![0.0; ROWS * config.input_len()];
        Self { config, store, forward: HashMap::new(), loss: HashMap::new(), features }
    }

    fn load(&self, device: &mut dyn Device, plan: &Plan) -> Result<ProgramId, Error> {
        device.load(plan, &|part| self.store.buffer(part.part, part.segment))
    }

    fn forward(&mut self, device: &mut dyn Device, rows: usize) -> Result<ProgramId, Error> {
        if let Some(&known) = self.forward.get(&rows) {
            return Ok(known);
        }
        let program = self.load(device, &program::forward_plan(self.config, rows)?)?;
        self.forward.insert(rows, program);
        Ok(program)
    }

    /// Raw logits [examples, classes].
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(
        &mut self,
        device: &mut dyn Device,
        data: &Examples,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, Error> {
        let program = self.forward(device, ROWS)?;
        let width = self.config.input_len();
        let mut logits = Vec::with_capacity(data.len() * self.config.classes());
        for first in (0..data.len()).step_by(ROWS) {
            let indices: Vec<u32> =
                (first..data.len().min(first + ROWS)).map(|i| i as u32).collect();
            let filled = &mut self.features[..indices.len() * width];
            data.gather(&indices, &self.config.normalisation, None, filled);
            let inputs = [(FEATURES, HostTensor::F32(&self.features))];
            device.run(program, &StepState::default(), &inputs)?;
            let answers = device.output(program, LOGITS)?;
            logits.extend_from_slice(&answers[..indices.len() * self.config.classes()]);
            progress(indices.len());
        }
        Ok(logits)
    }

    /// Metrics over a data set; with the teacher's raw logits for it, agreement and the soft term too.
    ///
    /// # Errors
    /// When the device fails.
    pub fn metrics(
        &mut self,
        device: &mut dyn Device,
        data: &Dataset,
        teacher: Option<&[f32]>,
        temperature: f32,
        alpha: f32,
    ) -> Result<Metrics, Error> {
        let classes = self.config.classes();
        let given = teacher.is_some();
        let program = match self.loss.get(&given) {
            Some(&known) => known,
            None => {
                let input = if given { TeacherInput::Given } else { TeacherInput::None };
                let program = self.load(device, &program::loss_plan(self.config, input, ROWS)?)?;
                self.loss.insert(given, program);
                program
            }
        };
        reset_metrics(device, self.store)?;
        let state = StepState { temperature, alpha, ..StepState::default() };
        let mut labels = vec![PADDING; ROWS];
        let mut answers = vec![0.0; if given { ROWS * classes } else { 0 }];
        let width = self.config.input_len();
        for first in (0..data.len()).step_by(ROWS) {
            let indices: Vec<u32> =
                (first..data.len().min(first + ROWS)).map(|i| i as u32).collect();
            let filled = &mut self.features[..indices.len() * width];
            data.gather(&indices, &self.config.normalisation, None, filled);
            labels.fill(PADDING);
            data.gather_labels(&indices, &mut labels[..indices.len()]);
            let mut inputs = vec![
                (FEATURES, HostTensor::F32(&self.features)),
                (LABELS, HostTensor::I32(&labels)),
            ];
            if let Some(values) = teacher {
                Teacher::gather(values, classes, &indices, &mut answers);
                inputs.push((TEACHER_LOGITS, HostTensor::F32(&answers)));
            }
            device.run(program, &state, &inputs)?;
        }
        Ok(Metrics::from_sums(&metric_sums(device, self.store)?, alpha))
    }

    /// Measures latency and throughput on the first examples of a data set.
    ///
    /// # Errors
    /// When the device fails.
    pub fn speed(&mut self, device: &mut dyn Device, data: &Dataset) -> Result<Speed, Error> {
        let one = self.time(device, data, 1, 20, Duration::from_millis(200))?;
        let many = self.time(device, data, ROWS, 3, Duration::from_millis(300))?;
        Ok(Speed { latency: one, examples_per_second: ROWS as f64 / many.as_secs_f64() })
    }

    /// Median time of a forward pass over `rows` examples, after two passes that count for nothing.
    fn time(
        &mut self,
        device: &mut dyn Device,
        data: &Dataset,
        rows: usize,
        least: usize,
        budget: Duration,
    ) -> Result<Duration, Error> {
        let program = self.forward(device, rows)?;
        let indices: Vec<u32> = (0..rows as u32).map(|i| i % data.len() as u32).collect();
        let mut features = vec![0.0; rows * self.config.input_len()];
        data.gather(&indices, &self.config.normalisation, None, &mut features);
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < least + 2 || start.elapsed() < budget {
            let pass = Instant::now();
            device.run(
                program,
                &StepState::default(),
                &[(FEATURES, HostTensor::F32(&features))],
            )?;
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

/// Sets a store's metric sums to zero.
pub(super) fn reset_metrics(device: &mut dyn Device, store: &Store) -> Result<(), Error> {
    let id = store.buffer(Part::Metrics, 0).expect("stores of models keep metrics");
    device.write(id, 0, &[0.0; TERMS])
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
