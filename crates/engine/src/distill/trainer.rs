//! Trains one arm.

use distil_gpu_kernels::distill_loss::{PADDING, TERMS};
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::{StepState, random};

use super::checkpoint::{Checkpoints, State};
use super::diagnose::diagnose;
use super::evaluate::{Evaluator, metric_sums, reset_metrics};
use super::program::{self, FEATURES, LABELS, TEACHER_LOGITS, TeacherInput};
use super::teacher::{Named, Teacher};
use super::{Arm, Event, Metrics, Observer};
use crate::data::{Dataset, Shift};
use crate::device::{BufferId, Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::graph::ops::OptimizerConfig;
use crate::models::ModelConfig;
use crate::recipe::{self, Optimizer};
use crate::store::{Layout, ParameterSpec, Part, Store, StorePart};

/// What an arm is trained with.
#[derive(Debug)]
pub struct Lesson<'a> {
    /// Which arm.
    pub arm: Arm,
    /// The model.
    pub config: &'a ModelConfig,
    /// How.
    pub train: &'a recipe::Train,
    /// Seed of weights, order, shifts and dropout.
    pub seed: u32,
    /// Examples to learn from.
    pub data: &'a Dataset,
    /// Examples to measure on.
    pub test: &'a Dataset,
    /// The teacher, if it has one.
    pub teacher: Option<&'a Teacher>,
    /// The teacher's raw logits of the test examples.
    pub test_answers: Option<&'a [f32]>,
    /// Temperature.
    pub temperature: f32,
    /// Weight of the soft term.
    pub alpha: f32,
}

impl Lesson<'_> {
    /// Rows of a step.
    pub fn rows(&self) -> usize {
        self.train.batch.min(self.data.len())
    }

    /// The device's buffer of a part of the trained model's or the teacher's store.
    pub(super) fn buffer(&self, trained: &Store, part: StorePart) -> Option<BufferId> {
        let store = match (part.store, self.teacher) {
            (program::TEACHER, Some(Teacher::Model { store, .. })) => store,
            _ => trained,
        };
        store.buffer(part.part, part.segment)
    }

    /// Where the plan's teacher logits come from.
    pub(super) fn teacher_input(&self) -> TeacherInput<'_> {
        match self.teacher {
            None => TeacherInput::None,
            Some(Teacher::Model { config, .. }) => TeacherInput::Model(config),
            Some(Teacher::Logits { .. }) => TeacherInput::Given,
        }
    }
}

/// A trained model.
#[derive(Debug)]
pub struct Trained {
    /// Its parameters, in the model's order.
    pub parameters: Vec<Vec<f32>>,
    /// Steps taken, those before an interruption included.
    pub steps: u32,
}

/// The update that a recipe asks for, and the betas of its moments (0 where it has none).
pub fn optimizer_config(train: &recipe::Train) -> (OptimizerConfig, [f64; 2]) {
    let (rule, weight_decay, betas) = match &train.optimizer {
        Optimizer::Sgd(sgd) => {
            let rule = Rule::Sgd { momentum: sgd.momentum, nesterov: sgd.nesterov };
            (rule, sgd.weight_decay, [0.0; 2])
        }
        Optimizer::Adam(adam) | Optimizer::AdamW(adam) => {
            let recipe::Adam { beta1, beta2, eps, weight_decay, .. } = *adam;
            let rule = match train.optimizer {
                Optimizer::AdamW(_) => Rule::AdamW { beta1, beta2, eps },
                _ => Rule::Adam { beta1, beta2, eps },
            };
            (rule, weight_decay, [beta1, beta2])
        }
    };
    let config = OptimizerConfig { rule, weight_decay, clip: train.clip, max_norm: train.max_norm };
    (config, betas)
}

/// The store's parts that training with this optimizer needs.
pub fn training_parts(optimizer: &OptimizerConfig) -> Vec<Part> {
    let moments = [Part::Moment1, Part::Moment2].into_iter().take(optimizer.rule.moments());
    [Part::Parameters, Part::Gradients].into_iter().chain(moments).collect()
}

/// A batch on the host, and its step's settings.
#[derive(Debug)]
struct Batch {
    features: Vec<f32>,
    labels: Vec<i32>,
    answers: Vec<f32>,
    state: StepState,
}

/// One arm in training: its store, its plan and the next step.
#[derive(Debug)]
pub(super) struct Trainer<'a> {
    lesson: &'a Lesson<'a>,
    store: &'a Store,
    program: ProgramId,
    betas: [f64; 2],
    steps_per_epoch: u32,
    /// Steps of the whole training.
    pub steps: u32,
    /// Number of the next step, from 0.
    pub step: u32,
    /// The examples' order in an epoch.
    order: Option<(u32, Vec<u32>)>,
    batch: Batch,
}

impl<'a> Trainer<'a> {
    /// A trainer before its first step. The store has the parts that [`training_store`] gives it.
    pub fn new(
        device: &mut dyn Device,
        lesson: &'a Lesson<'a>,
        store: &'a Store,
    ) -> Result<Self, Error> {
        let Lesson { config, train, data, .. } = *lesson;
        let (optimizer, betas) = optimizer_config(train);
        let rows = lesson.rows();
        let steps_per_epoch = data.len().div_ceil(rows) as u32;
        let plan = program::training_plan(config, lesson.teacher_input(), rows, optimizer)?;
        let program = device.load(&plan, &|part| lesson.buffer(store, part))?;
        let answers = match lesson.teacher {
            Some(Teacher::Logits { classes, .. }) => vec![0.0; rows * classes],
            _ => Vec::new(),
        };
        let batch = Batch {
            features: vec![0.0; rows * config.input_len()],
            labels: vec![PADDING; rows],
            answers,
            state: StepState::default(),
        };
        let steps = train.length.total_steps(steps_per_epoch);
        let trainer = Self {
            lesson,
            store,
            program,
            betas,
            steps_per_epoch,
            steps,
            step: 0,
            order: None,
            batch,
        };
        trainer.write(device, Part::Parameters, &trainer.initial().parameters)?;
        Ok(trainer)
    }

    /// The state before the first step.
    pub fn initial(&self) -> State {
        let specs = self.specs().iter().enumerate();
        let parameters = specs.map(|(index, spec)| spec.initial(self.lesson.seed, index)).collect();
        let zeros = || self.specs().iter().map(|spec| vec![0.0; spec.len()]).collect();
        let moments = self.moments().iter().map(|_| zeros()).collect();
        State { step: 0, parameters, moments, metrics: [0.0; TERMS] }
    }

    /// The model's parameters.
    pub fn specs(&self) -> &'a [ParameterSpec] {
        &self.store.layout.parameters
    }

    /// The learning rate of the step before.
    pub fn learning_rate(&self) -> f32 {
        self.batch.state.learning_rate
    }

    /// The store's moments.
    pub fn moments(&self) -> Vec<Part> {
        let has = |part: &Part| self.store.buffer(*part, 0).is_some();
        [Part::Moment1, Part::Moment2].into_iter().filter(has).collect()
    }

    fn write(&self, device: &mut dyn Device, part: Part, values: &[Vec<f32>]) -> Result<(), Error> {
        let mut all = values.iter().enumerate();
        all.try_for_each(|(index, values)| self.store.write(device, part, index, values))
    }

    /// All that the next steps depend on: the rest follows from the recipe and the number of the step.
    pub fn state(&self, device: &mut dyn Device) -> Result<State, Error> {
        let metrics = metric_sums(device, self.store)?;
        let mut read = |part| {
            let all = 0..self.specs().len();
            all.map(|index| self.store.read(device, part, index)).collect::<Result<Vec<_>, _>>()
        };
        let parameters = read(Part::Parameters)?;
        let moments = self.moments().into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(State { step: self.step, parameters, moments, metrics })
    }

    /// Goes to a state.
    pub fn restore(&mut self, device: &mut dyn Device, state: &State) -> Result<(), Error> {
        self.step = state.step;
        self.write(device, Part::Parameters, &state.parameters)?;
        for (part, values) in self.moments().into_iter().zip(&state.moments) {
            self.write(device, part, values)?;
        }
        let id = self.store.buffer(Part::Metrics, 0).expect("stores of models keep metrics");
        device.write(id, 0, &state.metrics)
    }

    /// Number of the epoch that the next step belongs to, from 0.
    fn epoch(&self) -> u32 {
        self.step / self.steps_per_epoch
    }

    /// Whether the next step begins an epoch, or there is none.
    fn at_epoch_edge(&self) -> bool {
        self.step.is_multiple_of(self.steps_per_epoch) || self.step == self.steps
    }

    /// Fills the batch of the next step.
    fn gather(&mut self) {
        let Lesson { config, train, data, seed, .. } = *self.lesson;
        let (epoch, step) = (self.epoch(), self.step);
        if self.order.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.order = Some((epoch, random::permutation(data.len(), seed, epoch)));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let (rows, first) = (self.lesson.rows(), (step % self.steps_per_epoch) as usize);
        let indices = &order[first * rows..order.len().min((first + 1) * rows)];

        let Batch { features, labels, answers, state } = &mut self.batch;
        let shift = (train.shift > 0).then_some(Shift { pixels: train.shift, seed, step });
        let filled = &mut features[..indices.len() * config.input_len()];
        data.gather(indices, &config.normalisation, shift, filled);
        labels.fill(PADDING);
        data.gather_labels(indices, &mut labels[..indices.len()]);
        if let Some(Teacher::Logits { values, classes }) = self.lesson.teacher {
            Teacher::gather(values, *classes, indices, answers);
        }
        let power = |beta: f64| (1.0 - beta.powf(f64::from(step) + 1.0)) as f32;
        let base_lr = train.optimizer.lr();
        *state = StepState {
            step,
            seed,
            learning_rate: train.schedule.lr(step, self.steps, self.steps_per_epoch, base_lr),
            temperature: self.lesson.temperature,
            alpha: self.lesson.alpha,
            soft_scale: scale(labels.iter().filter(|&&label| label != PADDING).count()),
            hard_scale: scale(labels.iter().filter(|&&label| label >= 0).count()),
            bias_correction1: power(self.betas[0]),
            bias_correction2: power(self.betas[1]),
            ..StepState::default()
        };
    }

    /// Runs the training plan, or another of the same inputs, on the batch of the next step.
    pub fn run_batch(
        &mut self,
        device: &mut dyn Device,
        program: Option<ProgramId>,
    ) -> Result<(), Error> {
        self.gather();
        let Batch { features, labels, answers, state } = &self.batch;
        let mut inputs: Vec<Named<'_>> =
            vec![(FEATURES, HostTensor::F32(features)), (LABELS, HostTensor::I32(labels))];
        if !answers.is_empty() {
            inputs.push((TEACHER_LOGITS, HostTensor::F32(answers)));
        }
        device.run(program.unwrap_or(self.program), state, &inputs)
    }

    /// Takes the next step.
    pub fn advance(&mut self, device: &mut dyn Device) -> Result<(), Error> {
        if self.step.is_multiple_of(self.steps_per_epoch) {
            reset_metrics(device, self.store)?;
        }
        self.run_batch(device, None)?;
        self.step += 1;
        Ok(())
    }

    /// Unloads the plan.
    pub fn close(self, device: &mut dyn Device) {
        device.unload(self.program);
    }
}

/// A store for training the lesson's model.
fn training_store(device: &mut dyn Device, lesson: &Lesson<'_>) -> Result<Store, Error> {
    let (optimizer, _) = optimizer_config(lesson.train);
    let layout = Layout::new(lesson.config.model().parameters())?;
    Store::new(device, lesson.arm.name(), layout, &training_parts(&optimizer), TERMS)
}

fn scale(rows: usize) -> f32 {
    if rows == 0 { 0.0 } else { 1.0 / rows as f32 }
}

/// Trains a model to the last step of the recipe: from its first weights, or on from its last checkpoint.
///
/// # Errors
/// When the device fails, the loss stops being a number, a checkpoint cannot be written, or the observer
/// asks to stop.
pub fn train(
    device: &mut dyn Device,
    lesson: &Lesson<'_>,
    checkpoints: &mut Checkpoints,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let Lesson { arm, config, .. } = *lesson;
    let store = training_store(device, lesson)?;
    let mut trainer = Trainer::new(device, lesson, &store)?;
    if let Some(state) = checkpoints.latest(arm, trainer.specs(), trainer.moments().len())? {
        trainer.restore(device, &state)?;
    }
    let (first, steps) = (trainer.step, trainer.steps);
    observer.event(&Event::Started { arm, steps, done: first, batch: lesson.rows() });
    checkpoints.start();
    let mut evaluator = Evaluator::new(config, &store);
    while trainer.step < steps {
        trainer.advance(device)?;
        observer.event(&Event::Step { arm, done: trainer.step });
        if trainer.at_epoch_edge() {
            let sums = metric_sums(device, &store)?;
            let train = Metrics::from_sums(&sums, lesson.alpha);
            let (temperature, alpha) = (lesson.temperature, lesson.alpha);
            let answers = lesson.test_answers;
            let measured = evaluator.metrics(device, lesson.test, answers, temperature, alpha)?;
            // The last step may have spoilt what the training batches no longer show.
            if !(train.loss.is_finite() && measured.loss.is_finite()) {
                return Err(diagnose(device, lesson, &mut trainer, &store, checkpoints)?);
            }
            observer.event(&Event::Epoch {
                arm,
                epoch: (trainer.step - 1) / trainer.steps_per_epoch + 1,
                step: trainer.step,
                learning_rate: trainer.learning_rate(),
                train: &train,
                test: &measured,
            });
        }
        let stop = observer.stop();
        if (stop || checkpoints.due()) && trainer.step < steps {
            checkpoints.begin();
            let state = trainer.state(device)?;
            if !state.is_finite() {
                return Err(diagnose(device, lesson, &mut trainer, &store, checkpoints)?);
            }
            checkpoints.save(arm, trainer.specs(), &state)?;
            if stop {
                return Err(Error::Interrupted { arm: arm.name(), step: trainer.step });
            }
        }
    }
    let parameters = trainer.state(device)?.parameters;
    evaluator.close(device);
    trainer.close(device);
    store.free(device);
    observer.event(&Event::Finished { arm });
    Ok(Trained { parameters, steps })
}
