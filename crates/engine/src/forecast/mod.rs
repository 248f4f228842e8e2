//! What a run will need, known before anything is allocated: work of a step, memory of each phase, limits.

mod bounds;
mod cut;
pub mod main_memory;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::{Cost, DType, Kernel};
use serde::Serialize;

use crate::data::{self, Dataset, Examples};
use crate::device::{Limits, Outlook};
use crate::error::Error;
use crate::graph::Recompute;
use crate::graph::ops::Update;
use crate::measure::batches::{self, shapes};
use crate::measure::predictions;
use crate::measure::stored::stored;
use crate::models::{BatchEncoder, BatchShape, ModelConfig};
use crate::objective::{TeacherInput, plans};
use crate::plan::{BufferKind, Plan};
use crate::recipe::{self, Recipe, Train};
use crate::results::{Arm, StoredWeights};
use crate::run::Setup;
use crate::store::{Layout, ParameterSpec, Part, Storage, Stored};
use crate::task::{Measuring, TaskRef};
use crate::train::inputs::PairedInputs;
use crate::train::optimizer::update;
use crate::train::plans::{TrainingPlans, are_given};
use crate::train::training_parts;
use bounds::Bounds;
pub use cut::CutForecast;
use cut::Search;
use main_memory::MainMemory;
pub use memory::Memory;

/// Most of the largest tensors that are listed.
const LARGEST: usize = 5;

/// What a run will need.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// The teacher, if it is a model, and the student.
    pub models: Vec<ModelForecast>,
    /// What is found out of a model before students are cut out of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<CutForecast>,
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
    /// What a teacher's parameters are stored in while it teaches, where that is not f32 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredWeights>,
}

impl ModelForecast {
    fn of(name: &'static str, config: &ModelConfig, types: &[DType]) -> Self {
        let sizes = config.architecture.to_string();
        let stored = StoredWeights::of(&config.model().parameters(), types);
        Self { name, sizes, parameters: config.parameter_count(), stored }
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
    /// Of a model with layers: bytes of a batch's activations where all are kept, and where layers' insides are made again
    /// (`recompute`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<[u64; 2]>,
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
    /// Those of all passes before students are cut out of a model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut_launches: Vec<usize>,
    /// Memory in each phase of the run.
    pub phases: Vec<Memory>,
    /// The most of any phase: every buffer that the run makes, exact to the byte.
    pub peak_bytes: u64,
    /// What the run takes of the machine's memory, where the device is the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_memory: Option<MainMemory>,
    /// Tensors that are bound in parts, since the device binds no more at once: name, and the most parts of one.
    pub tiled: BTreeMap<String, usize>,
    /// What exceeds which limit of the device, or what it lacks; where there is anything, the run is refused.
    pub exceeded: Vec<String>,
}

/// A model that is measured, its plans made once for all devices.
struct Measured {
    layout: Layout,
    /// What the host holds of its parameters while they are written to the device.
    copied: u64,
    /// Of a model that is not in f32 and is compared with itself there: its layout there, and the plans.
    compared: Option<(Layout, Vec<Plan>)>,
    /// Those of its answers to the test set.
    answers: Vec<Plan>,
    /// Those of its speed.
    speed: Vec<Plan>,
    /// Those of a language model's guesses that the page of a run shows.
    guesses: Vec<Plan>,
    /// Elements of the logits that the host reads at once.
    logits: usize,
}

/// A training, its plans made once for all devices.
struct Training {
    arm: Arm,
    layout: Layout,
    parts: Vec<Part>,
    /// Elements of the store's metrics.
    metrics: usize,
    plans: TrainingPlans,
    /// Batches of a step.
    batches: usize,
    /// What the host keeps of parameters while the model is trained.
    kept: u64,
    /// What a checkpoint takes of the host's memory while it is written.
    checkpoint: u64,
}

impl Training {
    /// The plan of the largest batch.
    fn step(&self) -> &Plan {
        self.plans.batches.values().last().expect("there is a step")
    }

    /// Something of a step that its plans have.
    fn count(&self, of: impl Fn(&Plan) -> usize) -> usize {
        self.batches * of(self.step()) + self.plans.update.as_ref().map_or(0, of)
    }

    /// Work of a step.
    fn cost(&self) -> Cost {
        let batches = std::iter::repeat_n(self.step(), self.batches);
        let all = batches.chain(&self.plans.update);
        all.fold(Cost::default(), |sum, plan| sum + plan.cost())
    }
}

impl Forecast {
    /// Of a recipe, on each of these devices. Reads the recipe's data, and a teacher that is loaded.
    ///
    /// # Errors
    /// When data or teacher cannot be used, or a parameter is too large for any device.
    pub fn of(recipe: &Recipe, devices: &[Outlook]) -> Result<Self, Error> {
        let setup = Setup::read(recipe, None)?;
        let teacher = |config| ModelForecast::of("teacher", config, &setup.teacher_types);
        let models = setup.teacher.iter().map(teacher);
        let models = models.chain([ModelForecast::of("student", &setup.student, &[])]).collect();
        let planned = Planned::of(recipe, &setup)?;
        let largest = largest(&planned.trainings);
        let on = |device: &Outlook| on_device(device, &planned);
        let devices = devices.iter().map(on).collect();
        let cuts = planned.searches.iter().map(Search::forecast).collect();
        Ok(Self { models, cuts, arms: planned.arms, devices, largest })
    }
}

/// The kernels that a run of a recipe will launch on a device of these limits, with the data and models that it was read
/// to.
///
/// # Errors
/// When a plan cannot be made.
pub fn kernels(
    recipe: &Recipe,
    setup: &Setup,
    limits: Limits,
) -> Result<Vec<Arc<dyn Kernel>>, Error> {
    let Planned { measured, searches, trainings, .. } = Planned::of(recipe, setup)?;
    let searched = searches.iter().flat_map(Search::plans);
    let trained = trainings.iter().flat_map(|training| training.plans.all());
    let measured = measured
        .values()
        .flat_map(|model| model.answers.iter().chain(&model.speed).chain(&model.guesses));
    let mut kernels = Vec::new();
    for plan in trained.chain(measured).chain(searched) {
        kernels.extend(plan.within(limits)?.calls.iter().map(|call| call.kernel.clone()));
    }
    Ok(kernels)
}

/// All plans of a run.
struct Planned {
    arms: Vec<ArmForecast>,
    /// Each arm's, where it is a model.
    measured: BTreeMap<Arm, Measured>,
    searches: Vec<Search>,
    trainings: Vec<Training>,
    /// Bytes of data and of parameters that the host holds all the time.
    held: [u64; 2],
}

impl Planned {
    fn of(recipe: &Recipe, setup: &Setup) -> Result<Self, Error> {
        let Setup { split, transfer, alone, teacher, student, .. } = setup;
        let given = TeacherInput::Given { objective: &setup.objective };
        let (answers, test_answers) = match (teacher, &recipe.teacher) {
            (Some(config), _) => {
                let (stored, objective) = (setup.stored(Arm::Teacher), &setup.objective);
                let answers = match setup.is_cached() {
                    true => TeacherInput::Kept { config, stored, objective },
                    false => TeacherInput::Model { config, stored, objective },
                };
                (answers, true)
            }
            (None, recipe::Teacher::Logits { logits }) => {
                (given, data::read_logits(logits, "test").is_ok())
            }
            _ => (given, false),
        };
        let mut arms = Vec::new();
        let test = split.test.examples();
        let mut train = |arm, config: &ModelConfig, how: &Train, teacher, given, data: &Dataset| {
            let (rows, step_rows) = (how.rows(data.len()), how.step_rows(data.len()));
            let (optimizer, _) = update(how, config)?;
            let feeds = PairedInputs::new(config, teacher, data.examples())?;
            let mut measured = BTreeSet::new();
            for (set, given) in [(Some(&split.test), given), (split.validation.as_ref(), false)] {
                let Some(set) = set else { continue };
                let feed = BatchEncoder::new(&config.input, set.examples())?;
                let has_teacher = !matches!(teacher, TeacherInput::None);
                let given = are_given(recipe.task, has_teacher, given);
                measured.extend(shapes(config, &feed).into_iter().map(|shape| (shape, given)));
            }
            let examples = (&feeds, data.len());
            let on_policy = recipe.distil.on_policy.as_ref().filter(|_| arm == Arm::Distilled);
            let how_of = (how, recipe.seed, on_policy);
            let shares = recipe.distil.gradient_shares;
            let plans = TrainingPlans::new(config, how_of, teacher, examples, measured, shares)?;
            let (parts, batches) = (training_parts(&optimizer), step_rows.div_ceil(rows));
            let layout = plans::student_layout(config, teacher)?;
            let metrics = teacher.hidden().metrics_len(TERMS);
            let count = layout.parameter_count();
            let kept = main_memory::kept(count, how);
            let checkpoint = main_memory::checkpoint(&parts, count, how);
            let training =
                Training { arm, layout, parts, metrics, plans, batches, kept, checkpoint };
            let cost = training.cost();
            let activations = activations(config, teacher, &optimizer, &training.plans)?;
            arms.push(ArmForecast {
                activations,
                arm,
                parameters: config.parameter_count(),
                batch: step_rows,
                steps: how.length.total_steps(how.steps_per_epoch(data.len())),
                calls: training.count(|plan| plan.calls.len()),
                flops: cost.flops,
                bytes_moved: cost.bytes_read + cost.bytes_written,
            });
            Ok::<_, Error>(training)
        };
        let mut trainings = Vec::new();
        if let Some((config, how)) = setup.taught(recipe) {
            let data = &setup.teacher_data;
            trainings.push(train(Arm::Teacher, config, how, TeacherInput::None, false, data)?);
        }
        let how = &recipe.train;
        if setup.loaded(Arm::Control).is_none() {
            let nothing = TeacherInput::None;
            trainings.push(train(Arm::Control, student, how, nothing, false, alone)?);
        }
        trainings.push(train(Arm::Distilled, student, how, answers, test_answers, transfer)?);
        let mut measured = BTreeMap::from([
            (Arm::Control, Measured::new((student, Storage::F32.into()), answers, test)?),
            (Arm::Distilled, Measured::new((student, Storage::F32.into()), answers, test)?),
        ]);
        if let Some(config) = teacher {
            let model = (config, setup.stored(Arm::Teacher));
            let mut frozen = Measured::new(model, TeacherInput::Uniform, test)?;
            if setup.teacher_source.is_some() {
                // One tensor at a time is read and made words.
                let most = frozen.layout.parameters.iter().map(ParameterSpec::len).max();
                frozen.copied = 4 * most.unwrap_or(0) as u64;
            }
            measured.insert(Arm::Teacher, frozen);
        }
        let searches = Search::all(recipe, setup)?;
        Ok(Self { arms, measured, searches, trainings, held: setup.held_bytes() })
    }
}

/// Bytes of the activations of the largest batch, kept and made again, of a model that has layers.
fn activations(
    config: &ModelConfig,
    teacher: TeacherInput<'_>,
    optimizer: &Update,
    plans: &TrainingPlans,
) -> Result<Option<[u64; 2]>, Error> {
    let Some(&shape) = plans.batches.keys().next_back() else { return Ok(None) };
    if config.model().layers().is_none() {
        return Ok(None);
    }
    let accumulates = plans.update.is_some();
    let of = |recompute| {
        let optimizer = Update { recompute, ..optimizer.clone() };
        let plan = plans::step_plan(config, teacher, shape, &optimizer, accumulates)?;
        Ok::<_, Error>(plan.slot_bytes())
    };
    Ok(Some([of(Recompute::None)?, of(Recompute::Layers)?]))
}

impl Measured {
    /// A language model's guesses are compared with those of a teacher that is a model.
    fn new(
        (config, types): (&ModelConfig, Stored<'_>),
        teacher: TeacherInput<'_>,
        test: &Examples,
    ) -> Result<Self, Error> {
        let layout = Layout::stored(config.model().parameters(), types)?;
        let feed = BatchEncoder::new(&config.input, test)?;
        // Answers that are too many to keep are scored where they are.
        let by_loss = TaskRef::of_model(config).measuring() == Measuring::Loss;
        let teacher = teacher.measured();
        let plan = |teacher, shape| match by_loss {
            true => plans::loss_plan(config, types, teacher, shape),
            false => plans::forward_plan_in(config, types, shape),
        };
        let plans = |shapes: BTreeSet<BatchShape>, teacher| {
            let plans = shapes.into_iter().map(|shape| plan(teacher, shape));
            plans.collect::<Result<Vec<_>, Error>>()
        };
        let guessed = predictions::shapes(config, &feed);
        let shown = guessed.iter().map(|&shape| config.input.labels(shape) * config.answers());
        let terms = shapes(config, &feed).into_iter().map(|shape| match feed.guesses_next() {
            true => config.input.labels(shape) * TERMS,
            false => TERMS,
        });
        let compared = match stored(config, &layout.types) {
            Some(stored) if stored.not_compared.is_none() => {
                let whole = TeacherInput::model(config);
                let plan = |shape| match by_loss {
                    true => plans::loss_plan(config, types, whole, shape),
                    false => plans::forward_plan(config, shape),
                };
                let plans = shapes(config, &feed).into_iter().map(plan);
                let layout = Layout::new(config.model().parameters())?;
                Some((layout, plans.collect::<Result<_, Error>>()?))
            }
            _ => None,
        };
        Ok(Self {
            copied: 4 * layout.parameter_count() as u64,
            compared,
            layout,
            answers: plans(shapes(config, &feed), teacher)?,
            speed: plans(batches::speed_shapes(config, &feed), TeacherInput::None)?,
            guesses: guessed
                .iter()
                .map(|&shape| plans::forward_plan(config, shape))
                .collect::<Result<_, _>>()?,
            logits: if by_loss {
                shown.chain(terms).max().unwrap_or(TERMS)
            } else {
                batches::rows(config) * config.answer_len()
            },
        })
    }
}

impl Training {
    /// Elements of the largest tensor that the host reads when the model is trained.
    fn largest_read(&self) -> usize {
        let parameters = self.layout.parameters.iter().map(|spec| spec.len());
        parameters.chain([TERMS]).max().unwrap_or(TERMS)
    }
}

fn on_device(device: &Outlook, planned: &Planned) -> DeviceForecast {
    let Planned { measured, searches, trainings, held, .. } = planned;
    let teacher = measured.get(&Arm::Teacher);
    let (mut phases, mut bounds) = (Vec::new(), Bounds::default());
    // Each training with the place of its phase.
    let mut trained = Vec::new();
    let mut largest_read = 0;
    // A teacher that is not trained here is there from the start.
    let mut frozen = teacher.filter(|_| trainings.iter().all(|t| t.arm != Arm::Teacher));
    if let Some(teacher) = frozen {
        largest_read = teacher.logits;
        phases.push(measuring(device, Arm::Teacher, None, teacher, largest_read));
        phases.extend(comparing(device, teacher, largest_read));
    }
    // They come before the first student.
    let mut to_search = searches.iter();
    for training in trainings {
        if training.arm != Arm::Teacher {
            for search in to_search.by_ref() {
                largest_read = largest_read.max(search.largest_read());
                search.plans().iter().for_each(|plan| bounds.hold(device, plan));
                phases.push(search.memory(device, frozen, largest_read));
            }
        }
        let name = training.arm.title();
        let model = &measured[&training.arm];
        largest_read = largest_read.max(training.largest_read()).max(model.logits);
        let mut memory = Memory { phase: format!("training the {name}"), ..Memory::default() };
        memory.store(&training.layout, &training.parts, training.metrics);
        if let Some(writing) = &training.plans.writing {
            memory.cache(&writing.cache);
        }
        if let Some(teacher) = frozen {
            memory.store(&teacher.layout, &[Part::Parameters], TERMS);
        }
        memory.plans(training.plans.all(), device);
        training.plans.all().for_each(|plan| bounds.hold(device, plan));
        memory.staging += device.other_bytes(largest_read);
        // What it has learnt is read from the device.
        memory.copied = memory.gradients;
        trained.push((phases.len(), training));
        phases.push(memory);
        phases.push(measuring(device, training.arm, frozen, model, largest_read));
        if training.arm == Arm::Teacher {
            phases.extend(comparing(device, model, largest_read));
            frozen = teacher;
        }
    }
    let mut speeds = Memory { phase: "timing teacher and student".to_owned(), ..Memory::default() };
    for model in teacher.into_iter().chain(measured.get(&Arm::Distilled)) {
        speeds.store(&model.layout, &[Part::Parameters], TERMS);
        speeds.plans(model.speed.iter(), device);
    }
    speeds.staging += device.other_bytes(largest_read);
    phases.push(speeds);
    let main_memory = device.is_processor().then(|| in_main_memory(&phases, &trained, *held));
    let Bounds { tiled, mut exceeded } = bounds;
    exceeded.extend(main_memory.iter().filter_map(MainMemory::problem));
    exceeded.sort();
    exceeded.dedup();
    DeviceForecast {
        device: device.name.clone(),
        launches: trainings
            .iter()
            .map(|training| training.count(|plan| device.launches(plan)))
            .collect(),
        cut_launches: searches.iter().map(|search| search.launches(device)).collect(),
        peak_bytes: phases.iter().map(Memory::total).max().unwrap_or(0),
        main_memory,
        phases,
        tiled,
        exceeded,
    }
}

/// What a run takes of the machine's memory whose device is the processor: the device's buffers, what the host holds, and
/// the model's parameters, which are read from the device once it is trained and copied to it before it is measured.
/// `trainings` come with the places of their phases.
fn in_main_memory(
    phases: &[Memory],
    trainings: &[(usize, &Training)],
    [data, models]: [u64; 2],
) -> MainMemory {
    let copy = |phase: &Memory| phase.total() + phase.copied;
    let mut work: Vec<u64> = phases.iter().map(copy).collect();
    let mut while_writing = 0;
    for &(place, training) in trainings {
        work[place] += training.kept;
        // What is written is read from the device in place of that copy.
        let written = phases[place].total() + training.kept + training.checkpoint;
        while_writing = while_writing.max(written);
    }
    let most = phases.iter().zip(work).max_by_key(|(_, bytes)| *bytes);
    let (phase, work) = most.map_or_else(Default::default, |(m, bytes)| (m.phase.clone(), bytes));
    MainMemory {
        program: main_memory::program(),
        data,
        models,
        work,
        phase,
        checkpoint: while_writing.saturating_sub(work),
        installed: main_memory::installed(),
    }
}

/// Measures a model, another teacher being there.
fn measuring(
    device: &Outlook,
    arm: Arm,
    teacher: Option<&Measured>,
    model: &Measured,
    largest_read: usize,
) -> Memory {
    // Its answers first, then its guesses: what the one takes is free before the other.
    let phases = [&model.answers, &model.guesses].map(|plans| {
        let mut memory =
            Memory { phase: format!("measuring the {}", arm.title()), ..Memory::default() };
        for layout in teacher.into_iter().chain([model]).map(|measured| &measured.layout) {
            memory.store(layout, &[Part::Parameters], TERMS);
        }
        memory.plans(plans.iter(), device);
        memory.staging += device.other_bytes(largest_read);
        memory.copied = model.copied;
        memory
    });
    let most = phases.into_iter().max_by_key(Memory::total);
    most.expect("there are two")
}

/// Compares a teacher that is not in f32 with itself there, if that is done.
fn comparing(device: &Outlook, teacher: &Measured, largest_read: usize) -> Option<Memory> {
    let (whole, plans) = teacher.compared.as_ref()?;
    let phase = "comparing the teacher with itself in f32".to_owned();
    let mut memory = Memory { phase, copied: teacher.copied, ..Memory::default() };
    for layout in [&teacher.layout, whole] {
        memory.store(layout, &[Part::Parameters], TERMS);
    }
    memory.plans(plans.iter(), device);
    memory.staging += device.other_bytes(largest_read);
    Some(memory)
}

/// The largest tensors of the models in training and of their steps; buffers that serve several tensors count
/// as the largest of them.
fn largest(trainings: &[Training]) -> Vec<TensorForecast> {
    let mut tensors = Vec::new();
    for training in trainings {
        let of_teacher = training.arm == Arm::Teacher;
        let owner = if of_teacher { "teacher" } else { "student" };
        let mut add = |name: &str, len: usize| {
            tensors
                .push(TensorForecast { name: format!("{owner}: {name}"), bytes: len as u64 * 4 });
        };
        for spec in &training.layout.parameters {
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
