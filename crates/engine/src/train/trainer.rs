//! One arm in training: its store, its plans, and step after step.

use std::collections::{BTreeSet, HashMap};

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::loss_scale::{self, LEN};

use crate::data::text::PackedRow;
use crate::data::{Dataset, Shift};
use crate::device::{BufferId, Device, ProgramId};
use crate::error::Error;
use crate::generate::Writer;
use crate::measure::Evaluator;
use crate::measure::evaluator::{metric_sums, set_metrics};
use crate::models::{BatchShape, Draw, HostBatch, Initialization, ModelConfig};
use crate::objective::plans::{self, ROW_WEIGHTS};
use crate::objective::{
    HiddenLosses, Named, Objective, RawAnswers, TeacherAnswers, TeacherInput, TermMetrics,
};
use crate::plan::Plan;
use crate::recipe;
use crate::results::{Arm, Shares};
use crate::scratch::Scratch;
use crate::store::{ParameterSpec, Part, Store, StorePart};
use crate::task::{BatchRows, Counted, TaskRef};
use crate::train::inputs::PairedInputs;
use crate::train::on_policy::OwnTexts;
use crate::train::optimizer::{training_parts, update};
use crate::train::plans::TrainingPlans;
use crate::train::{Best, State, StateShape};

/// What an arm is trained with.
#[derive(Debug)]
pub struct TrainingJob<'a> {
    /// Which arm.
    pub arm: Arm,
    /// The model.
    pub config: &'a ModelConfig,
    /// Where its parameters start; see [`Initialization`].
    pub start: &'a [Option<Vec<f32>>],
    /// How.
    pub train: &'a recipe::Train,
    /// Seed of weights, order, shifts and dropout.
    pub seed: u32,
    /// Examples to learn from.
    pub data: &'a Dataset,
    /// Examples to measure on.
    pub test: &'a Dataset,
    /// Examples to choose the best parameters on.
    pub validation: Option<&'a Dataset>,
    /// The teacher, if it has one.
    pub teacher: Option<&'a dyn TeacherAnswers>,
    /// The teacher's raw answers to the test examples, and how many numbers each has.
    pub test_answers: Option<RawAnswers<'a>>,
    /// What is minimised.
    pub objective: &'a Objective,
    /// Whether measurements tell how much of the gradient is each term's.
    pub gradient_shares: bool,
    /// What the labels' loss of an example of each class is multiplied by, where `train` has such weights.
    pub class_weights: Option<&'a [f32]>,
    /// What it writes itself and learns from, if it does.
    pub on_policy: Option<&'a recipe::OnPolicy>,
}

impl TrainingJob<'_> {
    /// Examples of a batch.
    pub fn rows(&self) -> usize {
        self.train.rows(self.data.len())
    }

    /// Examples of a step: of one batch, or of several whose gradients are summed.
    pub fn step_rows(&self) -> usize {
        self.train.step_rows(self.data.len())
    }

    /// The device's buffer of a part of the trained model's or the teacher's store.
    pub(crate) fn buffer(&self, trained: &Store, part: StorePart) -> Option<BufferId> {
        let teacher = self.teacher.and_then(TeacherAnswers::model);
        let store = match (part.store, teacher) {
            (plans::TEACHER, Some((_, store))) => store,
            _ => trained,
        };
        store.buffer(part.part, part.segment)
    }

    /// Where the plan's teacher logits come from.
    pub(crate) fn teacher_input(&self) -> TeacherInput<'_> {
        self.teacher.map_or(TeacherInput::None, |teacher| teacher.input(self.objective))
    }

    /// Sum of the weights of the soft and the hard term. Without a teacher there is one term, whose weight would change
    /// nothing but the learning rate.
    pub(crate) fn weight(&self) -> f32 {
        self.teacher.map_or(1.0, |_| self.objective.weight)
    }
}

/// One arm in training: its store, its plans and the next step.
#[derive(Debug)]
pub(crate) struct Trainer<'a> {
    job: &'a TrainingJob<'a>,
    store: &'a Store,
    feeds: PairedInputs<'a>,
    betas: [f64; 2],
    plans: TrainingPlans,
    /// What all plans of the training make between their kernels.
    scratch: Scratch,
    /// The plans of batches, loaded as their shapes are met.
    programs: HashMap<BatchShape, ProgramId>,
    /// The update's own plan, where a step is several batches.
    update: Option<ProgramId>,
    /// Those that tell the terms' shares of the gradient: of a batch, and of its norm.
    shares: Option<[ProgramId; 2]>,
    steps_per_epoch: u32,
    /// Steps of the whole training.
    pub steps: u32,
    /// Number of the next step, from 0.
    pub step: u32,
    /// The best so far, where it is kept.
    pub best: Option<Best>,
    /// An epoch's number and the examples of its steps.
    epoch: Option<(u32, Vec<Vec<u32>>)>,
    /// What the student writes and learns from in some steps.
    own: Option<OwnTexts<'a>>,
    next: Next,
}

/// The next step's batch, and its settings.
#[derive(Debug)]
struct Next {
    shape: BatchShape,
    student: HostBatch,
    teacher: HostBatch,
    state: StepState,
}

impl<'a> Trainer<'a> {
    /// A trainer before its first step, with plans for measurements of these shapes too. The store has the parts
    /// that [`training_store`] gives it.
    pub fn new(
        device: &mut dyn Device,
        job: &'a TrainingJob<'a>,
        store: &'a Store,
        measured: BTreeSet<(BatchShape, bool)>,
    ) -> Result<Self, Error> {
        let TrainingJob { config, train, data, seed, .. } = *job;
        let (_, betas) = update(train, config)?;
        let steps_per_epoch = train.steps_per_epoch(data.len());
        let teacher = job.teacher_input();
        let feeds = PairedInputs::new(config, teacher, data.examples())?;
        let how = (train, seed, job.on_policy);
        let examples = (&feeds, data.len());
        let shares = job.gradient_shares;
        let plans = TrainingPlans::new(config, how, teacher, examples, measured, shares)?;
        let scratch = Scratch::new(device, plans.all())?;
        let next = Next {
            shape: BatchShape::of_numbers(job.rows()),
            student: HostBatch::default(),
            teacher: HostBatch::new(plans::TEACHER_PREFIX),
            state: StepState::default(),
        };
        let mut trainer = Self {
            job,
            store,
            feeds,
            betas,
            plans,
            scratch,
            programs: HashMap::new(),
            update: None,
            shares: None,
            steps_per_epoch,
            steps: train.length.total_steps(steps_per_epoch),
            step: 0,
            best: None,
            epoch: None,
            own: None,
            next,
        };
        if let Some(how) = job.on_policy {
            let plans = trainer.plans.writing.as_ref();
            let load = |device: &mut dyn Device, plan: &Plan, cache: &Store| {
                let place = |part: StorePart| {
                    let of = |store: &Store| store.buffer(part.part, part.segment);
                    let stores = [store, cache];
                    trainer.scratch.buffer(part).or_else(|| of(stores.get(part.store)?))
                };
                device.load(&Scratch::shared(plan.clone()), &place)
            };
            match Writer::new(device, (config, store), how, plans, load) {
                Ok(writer) => trainer.own = Some(OwnTexts::new(writer, seed)),
                Err(error) => {
                    trainer.close(device);
                    return Err(error);
                }
            }
        }
        trainer.write(device, Part::Parameters, &trainer.initial().parameters)?;
        Ok(trainer)
    }

    /// Tokens of an example in the mean, of a model that guesses each next one.
    pub fn mean_tokens(&self) -> Option<f64> {
        let own = self.feeds.own();
        let rows: Vec<u32> = (0..own.len() as u32).collect();
        own.guesses_next().then(|| self.feeds.tokens(&rows) as f64 / rows.len() as f64)
    }

    /// The state before the first step.
    pub fn initial(&self) -> State {
        let parameters = Initialization::initial(self.specs(), self.job.start, self.job.seed);
        let zeros = || self.specs().iter().map(|spec| vec![0.0; spec.len()]).collect();
        let moments = self.moments().iter().map(|_| zeros()).collect();
        let features = vec![0.0; self.features().len()];
        let loss_scale = self.scale_buffer().map(|_| loss_scale::INITIAL);
        let metrics = [0.0; TERMS];
        State { step: 0, parameters, moments, metrics, features, loss_scale, best: None }
    }

    /// Where the scale of the loss lies, if it is scaled.
    fn scale_buffer(&self) -> Option<BufferId> {
        self.store.buffer(Part::LossScale, 0)
    }

    /// The scale of the loss and what goes with it, if it is scaled; see [`loss_scale`].
    pub fn loss_scale(&self, device: &mut dyn Device) -> Result<Option<[f32; LEN]>, Error> {
        let Some(buffer) = self.scale_buffer() else { return Ok(None) };
        let values = device.read(buffer, 0, LEN)?;
        Ok(Some(values.try_into().expect("as many were read")))
    }

    /// What is learnt besides answers.
    pub fn features(&self) -> &'a HiddenLosses {
        self.job.teacher_input().hidden()
    }

    /// The epoch's sums of those so far, and what they come to.
    pub fn terms(&self, device: &mut dyn Device) -> Result<(Vec<f32>, Vec<TermMetrics>), Error> {
        let sums = self.features().sums(device, self.store)?;
        let steps = (self.step - 1) % self.steps_per_epoch + 1;
        let terms = self.features().metrics(&sums, steps);
        Ok((sums, terms))
    }

    /// What a checkpoint of it holds.
    pub fn shape_of_state(&self) -> StateShape<'a> {
        StateShape {
            specs: self.specs(),
            moments: self.moments().len(),
            features: self.features().len(),
            scales: self.scale_buffer().is_some(),
        }
    }

    /// The parameters that are trained: the model's, then those of the features.
    pub fn specs(&self) -> &'a [ParameterSpec] {
        &self.store.layout.parameters
    }

    /// The learning rate of the step before.
    pub fn learning_rate(&self) -> f32 {
        self.next.state.learning_rate
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

    /// A part of every parameter.
    pub fn read(&self, device: &mut dyn Device, part: Part) -> Result<Vec<Vec<f32>>, Error> {
        let all = 0..self.specs().len();
        all.map(|index| self.store.read(device, part, index)).collect()
    }

    /// All that the next steps depend on: the rest follows from the recipe and the number of the step.
    pub fn state(&self, device: &mut dyn Device) -> Result<State, Error> {
        let metrics = metric_sums(device, self.store)?;
        let features = self.features().sums(device, self.store)?;
        let parameters = self.read(device, Part::Parameters)?;
        let moments = self.moments().into_iter().map(|part| self.read(device, part));
        let moments = moments.collect::<Result<_, _>>()?;
        let loss_scale = self.loss_scale(device)?;
        let (step, best) = (self.step, self.best.clone());
        Ok(State { step, parameters, moments, metrics, features, loss_scale, best })
    }

    /// Goes to a state.
    pub fn restore(&mut self, device: &mut dyn Device, state: &State) -> Result<(), Error> {
        self.step = state.step;
        self.best.clone_from(&state.best);
        self.write(device, Part::Parameters, &state.parameters)?;
        for (part, values) in self.moments().into_iter().zip(&state.moments) {
            self.write(device, part, values)?;
        }
        if let (Some(buffer), Some(scale)) = (self.scale_buffer(), &state.loss_scale) {
            device.write(buffer, 0, scale)?;
        }
        set_metrics(device, self.store, &state.metrics)?;
        self.features().set_sums(device, self.store, &state.features)
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u32 {
        self.steps_per_epoch
    }

    /// Number of the epoch that the next step belongs to, from 0.
    fn epoch(&self) -> u32 {
        self.step / self.steps_per_epoch
    }

    /// Whether the next step begins an epoch, or there is none.
    pub fn at_epoch_edge(&self) -> bool {
        self.step.is_multiple_of(self.steps_per_epoch) || self.step == self.steps
    }

    /// Makes the batches of the next step known.
    fn open_epoch(&mut self) {
        let (epoch, rows) = (self.epoch(), self.job.step_rows());
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.epoch = Some((epoch, self.feeds.epoch(rows, self.job.seed, epoch)));
        }
    }

    /// Number of the next step's batches.
    pub fn batches(&mut self) -> usize {
        self.open_epoch();
        let step = self.step % self.steps_per_epoch;
        examples(&self.epoch, step).len().div_ceil(self.job.rows())
    }

    /// Fills batch `number` of the next step.
    fn gather(&mut self, number: usize) -> Result<(), Error> {
        self.open_epoch();
        let TrainingJob { train, data, seed, .. } = *self.job;
        let (step, rows, first) = (self.step, self.job.rows(), number * self.job.rows());
        let all = examples(&self.epoch, step % self.steps_per_epoch);
        let indices = &all[first..all.len().min(first + rows)];
        let Next { shape, student, teacher, state } = &mut self.next;
        *shape = self.feeds.shape(indices, rows);
        let shift = Shift { pixels: train.shift, seed, step, first: first as u32 };
        let shift = Some(shift).filter(|shift| shift.pixels > 0);
        let draw = Draw { shift, seed, epoch: step / self.steps_per_epoch };
        let own = self.own.as_ref().and_then(|own| own.rows(step));
        match own {
            Some(rows) => {
                let rows = &rows[first..first + indices.len()];
                self.feeds.fill_rows(rows, *shape, student, teacher);
            }
            None => self.feeds.fill(indices, *shape, draw, student, teacher),
        }
        let (task, feed) = (TaskRef::of_model(self.job.config), self.feeds.own());
        let of_batch = BatchRows { feed, data, indices, shape: *shape };
        task.fill_labels(&of_batch, student);
        if let Some(weights) = self.job.class_weights {
            let rows = student.floats(ROW_WEIGHTS, shape.rows);
            rows.fill(0.0);
            for (weight, &row) in rows.iter_mut().zip(indices) {
                *weight = data.label(row).map_or(0.0, |label| weights[label as usize]);
            }
        }
        if let Some(teacher) = self.job.teacher {
            let rows = self.job.config.input.labels(*shape);
            teacher.fill(indices, rows, student)?;
        }
        // The means are over the whole step, so that it does not matter how many batches it is.
        let of_step = BatchRows { indices: all, ..of_batch };
        let Counted { rows: counted, labelled } = match own {
            // What it writes is no label.
            Some(rows) => Counted { rows: rows.iter().map(PackedRow::counted).sum(), labelled: 0 },
            None => task.counted(&of_step),
        };
        let tokens = match own {
            Some(rows) => rows.iter().map(|row| row.ids.len()).sum(),
            None => self.feeds.tokens(all),
        };
        let hard_scale = match self.job.class_weights {
            Some(weights) => scale_of_weights(weights, all, data),
            None => scale(labelled),
        };
        let power = |beta: f64| (1.0 - beta.powf(f64::from(step) + 1.0)) as f32;
        let base_lr = train.optimizer.lr();
        let done = f64::from(step) / f64::from((self.steps - 1).max(1));
        *state = StepState {
            // Each batch has random numbers of its own.
            step: step.wrapping_mul(train.accumulate as u32).wrapping_add(number as u32),
            seed,
            learning_rate: train.schedule.lr(step, self.steps, self.steps_per_epoch, base_lr),
            temperature: self.job.objective.temperature,
            alpha: self.job.objective.alpha,
            blend: self.job.objective.divergence.blend(done),
            soft_scale: scale(counted) * self.job.weight(),
            hard_scale: hard_scale * self.job.weight(),
            token_scale: scale(tokens),
            bias_correction1: power(self.betas[0]),
            bias_correction2: power(self.betas[1]),
            ..StepState::default()
        };
        Ok(())
    }

    /// The shape of batch `number` of the next step.
    pub fn shape(&mut self, number: usize) -> Result<BatchShape, Error> {
        self.gather(number)?;
        Ok(self.next.shape)
    }

    /// Runs the training plan, or another of the same inputs, on batch `number` of the next step.
    pub fn run_batch(
        &mut self,
        device: &mut dyn Device,
        number: usize,
        program: Option<ProgramId>,
    ) -> Result<(), Error> {
        self.gather(number)?;
        let program = match program {
            Some(program) => program,
            None => self.program(device)?,
        };
        let Next { student, teacher, state, .. } = &self.next;
        let inputs: Vec<Named<'_>> = student.inputs().chain(teacher.inputs()).collect();
        device.run(program, state, &inputs)
    }

    /// The training plan for the next step's batch.
    fn program(&mut self, device: &mut dyn Device) -> Result<ProgramId, Error> {
        let shape = self.next.shape;
        if let Some(&known) = self.programs.get(&shape) {
            return Ok(known);
        }
        let program = self.load(device, &self.plans.batches[&shape])?;
        self.programs.insert(shape, program);
        Ok(program)
    }

    fn load(&self, device: &mut dyn Device, plan: &Plan) -> Result<ProgramId, Error> {
        let place = |part| self.scratch.buffer(part).or_else(|| self.job.buffer(self.store, part));
        device.load(&Scratch::shared(plan.clone()), &place)
    }

    /// Gives an evaluator the plans of measurements.
    pub fn lend(
        &self,
        device: &mut dyn Device,
        evaluator: &mut Evaluator<'_>,
    ) -> Result<(), Error> {
        let plans = &self.plans.measured;
        plans.iter().try_for_each(|(key, plan)| evaluator.lend(*key, self.load(device, plan)?))
    }

    /// Updates the parameters from the gradients of several batches.
    fn update(&mut self, device: &mut dyn Device) -> Result<(), Error> {
        if let (None, Some(plan)) = (self.update, &self.plans.update) {
            self.update = Some(self.load(device, plan)?);
        }
        self.update.map_or(Ok(()), |program| device.run(program, &self.next.state, &[]))
    }

    /// How the gradient of the training's first batch is made up, with the parameters as they are; absent without a
    /// teacher, and where it was not asked for. It may change what the store has summed.
    pub fn gradient_shares(&mut self, device: &mut dyn Device) -> Result<Option<Shares>, Error> {
        if let (None, Some([batch, norm])) = (self.shares, &self.plans.shares) {
            self.shares = Some([self.load(device, batch)?, self.load(device, norm)?]);
        }
        let Some([batch, norm]) = self.shares else { return Ok(None) };
        let before = (std::mem::take(&mut self.step), self.epoch.take());
        let statistics = self.statistics(device)?;
        // Of what is given, which is the same for each measurement.
        let own = self.own.take();
        let gathered = self.gather(0);
        self.own = own;
        gathered?;
        let StepState { alpha, soft_scale, hard_scale, .. } = self.next.state;
        if hard_scale == 0.0 && alpha < 1.0 {
            // No example of the batch has a label.
            (self.step, self.epoch) = before;
            return Ok(None);
        }
        // Each term alone, with its own weight. What the last step left is taken away first.
        let answers = StepState { token_scale: 0.0, ..self.next.state };
        let soft = StepState { alpha: 1.0, soft_scale: alpha * soft_scale, ..answers };
        let hard = (1.0 - alpha) * hard_scale;
        let hard = StepState { alpha: 0.0, hard_scale: hard, ..answers };
        let features = StepState { soft_scale: 0.0, hard_scale: 0.0, ..self.next.state };
        device.run(norm, &soft, &[])?;
        let Next { student, teacher, .. } = &self.next;
        let inputs: Vec<Named<'_>> = student.inputs().chain(teacher.inputs()).collect();
        let mut norm_in = |state: StepState| {
            device.run(batch, &state, &inputs)?;
            device.run(norm, &state, &[])?;
            Ok::<_, Error>(f64::from(device.output(norm, plans::NORM)?[0]).sqrt())
        };
        let (soft, hard) = (norm_in(soft), norm_in(hard));
        let features = (!self.features().is_empty()).then(|| norm_in(features));
        (self.step, self.epoch) = before;
        for (index, values) in statistics {
            self.store.write(device, Part::Parameters, index, &values)?;
        }
        Ok(Shares::of(soft?, hard?, features.transpose()?))
    }

    /// The running statistics, by the numbers of their parameters.
    fn statistics(&self, device: &mut dyn Device) -> Result<Vec<(usize, Vec<f32>)>, Error> {
        let all = self.specs().iter().enumerate().filter(|(_, spec)| !spec.learns());
        all.map(|(index, _)| Ok((index, self.store.read(device, Part::Parameters, index)?)))
            .collect()
    }

    /// The first text that the step before learnt from, if the student wrote it: what was given, and what it went on with.
    pub fn wrote(&self) -> Result<Option<[String; 2]>, Error> {
        self.own.as_ref().map_or(Ok(None), |own| own.shown(self.step - 1))
    }

    /// Takes the next step.
    pub fn advance(&mut self, device: &mut dyn Device) -> Result<(), Error> {
        if self.step.is_multiple_of(self.steps_per_epoch) {
            set_metrics(device, self.store, &[0.0; TERMS])?;
            let features = self.features();
            features.set_sums(device, self.store, &vec![0.0; features.len()])?;
        }
        let batches = self.batches();
        if let Some(own) = &mut self.own {
            let all = examples(&self.epoch, self.step % self.steps_per_epoch);
            own.write(device, self.store, (self.feeds.own(), all), self.step)?;
        }
        for number in 0..batches {
            self.run_batch(device, number, None)?;
        }
        self.update(device)?;
        self.step += 1;
        Ok(())
    }

    /// Unloads the plans. Evaluators that were lent some are closed before.
    pub fn close(self, device: &mut dyn Device) {
        if let Some(own) = self.own {
            own.close(device);
        }
        self.programs
            .into_values()
            .chain(self.update)
            .chain(self.shares.into_iter().flatten())
            .for_each(|program| device.unload(program));
        self.scratch.free(device);
    }
}

/// A store for training the job's model.
pub(crate) fn training_store(
    device: &mut dyn Device,
    job: &TrainingJob<'_>,
) -> Result<Store, Error> {
    let (update, _) = update(job.train, job.config)?;
    let teacher = job.teacher_input();
    let layout = plans::student_layout(job.config, teacher)?;
    let metrics = teacher.hidden().metrics_len(TERMS);
    Store::new(device, job.arm.name(), layout, &training_parts(&update), metrics)
}

/// Examples of a step of the epoch.
fn examples(epoch: &Option<(u32, Vec<Vec<u32>>)>, step: u32) -> &[u32] {
    epoch.as_ref().map_or(&[][..], |(_, steps)| &steps[step as usize])
}

fn scale(rows: usize) -> f32 {
    if rows == 0 { 0.0 } else { 1.0 / rows as f32 }
}

/// 1 / the sum of the weights of these examples; 0 where none has a weight above 0.
fn scale_of_weights(weights: &[f32], examples: &[u32], data: &Dataset) -> f32 {
    let labels = examples.iter().filter_map(|&row| data.label(row));
    let sum: f64 = labels.map(|label| f64::from(weights[label as usize])).sum();
    if sum > 0.0 { (1.0 / sum) as f32 } else { 0.0 }
}
