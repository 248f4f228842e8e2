//! What a run will need, known before anything is allocated: work of a step, memory of each phase, limits.

use std::collections::BTreeSet;

use distil_gpu_kernels::distill_loss::TERMS;
use serde::Serialize;

use super::evaluate;
use super::feeds::Feeds;
use super::program::{self, TeacherInput};
use super::trainer::{optimizer_config, training_parts};
use super::{Arm, Setup};
use crate::data::{self, Dataset, Examples};
use crate::device::{Outlook, exceeded};
use crate::error::Error;
use crate::models::{BatchShape, Feed, ModelConfig};
use crate::plan::{BufferKind, Plan};
use crate::recipe::{self, Recipe, Train};
use crate::store::{ALIGNMENT, Layout, Part};

/// Most of the largest tensors that are listed.
const LARGEST: usize = 5;

/// What a run will need.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// The teacher, if it is a model, and the student.
    pub models: Vec<ModelForecast>,
    /// The arms that are trained, in their order.
    pub arms: Vec<ArmForecast>,
    /// Each device that was asked about.
    pub devices: Vec<DeviceForecast>,
    /// The largest tensors of the training steps.
    pub largest: Vec<TensorForecast>,
}

/// A model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelForecast {
    /// `teacher` or `student`.
    pub name: &'static str,
    /// Kind and sizes.
    pub sizes: String,
    /// Number of parameters.
    pub parameters: usize,
}

impl ModelForecast {
    fn of(name: &'static str, config: &ModelConfig) -> Self {
        let sizes = config.architecture.to_string();
        Self { name, sizes, parameters: config.parameter_count() }
    }
}

/// One arm's training.
#[derive(Clone, Debug, Serialize)]
pub struct ArmForecast {
    /// Which.
    pub arm: Arm,
    /// Number of parameters.
    pub parameters: usize,
    /// Examples of a step.
    pub batch: usize,
    /// Steps of the training.
    pub steps: u32,
    /// Kernel calls of a step.
    pub calls: usize,
    /// Operations of a step.
    pub flops: u64,
    /// Bytes that the kernels of a step read and write at least.
    pub bytes_moved: u64,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorForecast {
    /// Its name and shape.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a run takes of one device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceForecast {
    /// Its name.
    pub device: String,
    /// Kernel launches of a step of each trained arm.
    pub launches: Vec<usize>,
    /// Memory in each phase of the run.
    pub phases: Vec<Memory>,
    /// The most of any phase: every buffer that the run makes, exact to the byte.
    pub peak_bytes: u64,
    /// What exceeds which limit of the device; where there is anything, the run is refused.
    pub exceeded: Vec<String>,
}

/// Bytes by purpose, in one phase of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    /// What goes on.
    pub phase: String,
    /// Of all models that are there.
    pub parameters: u64,
    /// Of the model in training.
    pub gradients: u64,
    /// The optimizer's.
    pub moments: u64,
    /// Tensors between the kernels of a plan, and sums over an epoch.
    pub activations: u64,
    /// What plans read from the host and give back to it.
    pub data: u64,
    /// What the device needs beside: staging buffers, sizes of launches.
    pub staging: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { phase: _, parameters, gradients, moments, activations, data, staging } = self;
        parameters + gradients + moments + activations + data + staging
    }

    /// Adds a store with these parts and its metrics.
    fn store(&mut self, layout: &Layout, parts: &[Part]) {
        let bytes: u64 = layout.segments.iter().map(|&len| len.max(ALIGNMENT) as u64 * 4).sum();
        for part in parts {
            match part {
                Part::Parameters => self.parameters += bytes,
                Part::Gradients => self.gradients += bytes,
                Part::Moment1 | Part::Moment2 => self.moments += bytes,
                Part::Metrics => {}
            }
        }
        self.activations += TERMS as u64 * 4;
    }

    /// Adds a loaded plan.
    fn plan(&mut self, plan: &Plan, device: &Outlook) {
        for buffer in &plan.buffers {
            let bytes = buffer.len as u64 * 4;
            match buffer.kind {
                BufferKind::Slot => self.activations += bytes,
                BufferKind::Input(_) | BufferKind::Output(_) => self.data += bytes,
                BufferKind::Persistent(_) => {}
            }
        }
        self.staging += device.plan_bytes(plan);
    }
}

/// A model that is measured, its plans made once for all devices.
struct Measured {
    layout: Layout,
    plans: Vec<Plan>,
    /// Elements of the logits that the host reads.
    logits: usize,
}

/// A training, its plans made once for all devices.
struct Training {
    arm: Arm,
    parts: Vec<Part>,
    /// Plans of a step, by batch shape, the largest last.
    steps: Vec<Plan>,
    /// Those that measure the test set.
    tests: Vec<Plan>,
}

impl Training {
    fn step(&self) -> &Plan {
        self.steps.last().expect("there is a step")
    }
}

impl Forecast {
    /// Of a recipe, on each of these devices. Reads the recipe's data, and a teacher that is loaded.
    ///
    /// # Errors
    /// When data or teacher cannot be used, or a parameter is too large for any device.
    pub fn of(recipe: &Recipe, devices: &[Outlook]) -> Result<Self, Error> {
        let setup = Setup::read(recipe, None)?;
        let Setup { split, students, teacher, student, .. } = &setup;
        let (answers, test_answers) = match (teacher, &recipe.teacher) {
            (Some(config), _) => (TeacherInput::Model(config), true),
            (None, recipe::Teacher::Logits { logits }) => {
                (TeacherInput::Given, data::read_logits(logits, "test").is_ok())
            }
            _ => (TeacherInput::Given, false),
        };
        let mut arms = Vec::new();
        let test = split.test.examples();
        let mut train = |arm, config: &ModelConfig, how: &Train, teacher, given, data: &Dataset| {
            let rows = how.batch.min(data.len());
            let (optimizer, _) = optimizer_config(how);
            let steps = how.length.total_steps(data.len().div_ceil(rows) as u32);
            let epochs = (u64::from(steps) * rows as u64).div_ceil(data.len() as u64) as u32;
            let feeds = Feeds::new(config, teacher, data.examples())?;
            let shapes = feeds.shapes(rows, recipe.seed, epochs);
            let step = |shape| program::training_plan(config, teacher, shape, optimizer);
            let plans = shapes.into_iter().map(step).collect::<Result<Vec<_>, _>>()?;
            let input = if given { TeacherInput::Given } else { TeacherInput::None };
            let measured = |shape| program::loss_plan(config, input, shape);
            let tests = test_shapes(config, test)?.into_iter().map(measured);
            let tests = tests.collect::<Result<_, _>>()?;
            let training = Training { arm, parts: training_parts(&optimizer), steps: plans, tests };
            let cost = training.step().cost();
            arms.push(ArmForecast {
                arm,
                parameters: config.parameter_count(),
                batch: rows,
                steps,
                calls: training.step().calls.len(),
                flops: cost.flops,
                bytes_moved: cost.bytes_read + cost.bytes_written,
            });
            Ok::<_, Error>(training)
        };
        let mut trainings = Vec::new();
        if let Some((config, how)) = setup.taught(recipe) {
            let data = &split.train;
            trainings.push(train(Arm::Teacher, config, how, TeacherInput::None, false, data)?);
        }
        let how = &recipe.train;
        trainings.push(train(Arm::Control, student, how, TeacherInput::None, false, students)?);
        trainings.push(train(Arm::Distilled, student, how, answers, test_answers, students)?);
        let models = teacher.iter().map(|config| ModelForecast::of("teacher", config));
        let models = models.chain([ModelForecast::of("student", student)]).collect();
        let teacher = teacher.as_ref().map(|config| Measured::new(config, test)).transpose()?;
        let student = Measured::new(student, test)?;
        let on = |device: &Outlook| on_device(device, teacher.as_ref(), &student, &trainings);
        let largest = largest(&trainings, teacher.as_ref(), &student);
        Ok(Self { models, arms, devices: devices.iter().map(on).collect(), largest })
    }
}

/// The shapes of the batches in which a test set is measured.
fn test_shapes(config: &ModelConfig, test: &Examples) -> Result<BTreeSet<BatchShape>, Error> {
    let rows = evaluate::rows(config);
    let feed = Feed::new(&config.input, test)?;
    Ok(feed.all(rows).iter().map(|batch| feed.shape(batch, rows)).collect())
}

impl Measured {
    fn new(config: &ModelConfig, test: &Examples) -> Result<Self, Error> {
        let layout = Layout::new(config.model().parameters())?;
        let feed = Feed::new(&config.input, test)?;
        let rows = evaluate::rows(config);
        let mut shapes = test_shapes(config, test)?;
        // Those whose speed is measured.
        shapes.extend([1, rows].map(|rows| feed.shape(&feed.sample(rows), rows)));
        let plans = shapes.into_iter().map(|shape| program::forward_plan(config, shape));
        Ok(Self {
            layout,
            plans: plans.collect::<Result<_, _>>()?,
            logits: rows * config.classes(),
        })
    }
}

impl Measured {
    /// Elements of the largest tensor that the host reads when the model is trained.
    fn largest_read(&self) -> usize {
        let parameters = self.layout.parameters.iter().map(|spec| spec.len());
        parameters.chain([TERMS]).max().unwrap_or(TERMS)
    }
}

fn on_device(
    device: &Outlook,
    teacher: Option<&Measured>,
    student: &Measured,
    trainings: &[Training],
) -> DeviceForecast {
    let (mut phases, mut exceeding) = (Vec::new(), Vec::new());
    let mut largest_read = 0;
    // A teacher that is not trained here is there from the start.
    let mut frozen = teacher.filter(|_| trainings.iter().all(|t| t.arm != Arm::Teacher));
    if let Some(teacher) = frozen {
        largest_read = teacher.logits;
        phases.push(measuring(device, "the teacher", None, teacher, largest_read));
    }
    for training in trainings {
        let name = training.arm.name();
        let model = if training.arm == Arm::Teacher { teacher.unwrap_or(student) } else { student };
        largest_read = largest_read.max(model.largest_read());
        let mut memory = Memory { phase: format!("training the {name}"), ..Memory::default() };
        memory.store(&model.layout, &training.parts);
        if let Some(teacher) = frozen {
            memory.store(&teacher.layout, &[Part::Parameters]);
        }
        for plan in training.steps.iter().chain(&training.tests) {
            memory.plan(plan, device);
            exceeding.extend(exceeded(plan, device.limits).iter().map(ToString::to_string));
        }
        memory.staging += device.other_bytes(largest_read);
        phases.push(memory);
        largest_read = largest_read.max(model.logits);
        phases.push(measuring(device, &format!("the {name}"), frozen, model, largest_read));
        if training.arm == Arm::Teacher {
            frozen = teacher;
        }
    }
    exceeding.sort();
    exceeding.dedup();
    DeviceForecast {
        device: device.name.clone(),
        launches: trainings.iter().map(|training| device.launches(training.step())).collect(),
        peak_bytes: phases.iter().map(Memory::total).max().unwrap_or(0),
        phases,
        exceeded: exceeding,
    }
}

/// Measures a model, another teacher being there.
fn measuring(
    device: &Outlook,
    name: &str,
    teacher: Option<&Measured>,
    model: &Measured,
    largest_read: usize,
) -> Memory {
    let mut memory = Memory { phase: format!("measuring {name}"), ..Memory::default() };
    for layout in teacher.into_iter().chain([model]).map(|measured| &measured.layout) {
        memory.store(layout, &[Part::Parameters]);
    }
    model.plans.iter().for_each(|plan| memory.plan(plan, device));
    memory.staging += device.other_bytes(largest_read);
    memory
}

/// The largest tensors of the models in training and of their steps; buffers that serve several tensors count
/// as the largest of them.
fn largest(
    trainings: &[Training],
    teacher: Option<&Measured>,
    student: &Measured,
) -> Vec<TensorForecast> {
    let mut tensors = Vec::new();
    for training in trainings {
        let of_teacher = training.arm == Arm::Teacher;
        let model = teacher.filter(|_| of_teacher).unwrap_or(student);
        let owner = if of_teacher { "teacher" } else { "student" };
        let mut add = |name: &str, len: usize| {
            tensors
                .push(TensorForecast { name: format!("{owner}: {name}"), bytes: len as u64 * 4 });
        };
        for spec in &model.layout.parameters {
            add(&format!("{} {:?}", spec.name, spec.shape), spec.len());
        }
        let own = |kind: &BufferKind| !matches!(kind, BufferKind::Persistent(_));
        for buffer in training.step().buffers.iter().filter(|buffer| own(&buffer.kind)) {
            add(&buffer.label, buffer.len);
        }
    }
    tensors.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    tensors.dedup();
    tensors.truncate(LARGEST);
    tensors
}
