//! The thread that has the device: it loads the models, takes batches and answers them.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use distil_gpu_engine::Error;
use distil_gpu_engine::data::{Examples, Features, Numbers};
use distil_gpu_engine::device::{Device, DeviceKind, ProgramId};
use distil_gpu_engine::kernels::StepState;
use distil_gpu_engine::models::{
    self, BatchEncoder, BatchShape, Draw, HostBatch, Input, ModelConfig, Pooling,
};
use distil_gpu_engine::objective::{LOGITS, forward_plan_with_head, frozen_store};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::scratch::Scratch;
use distil_gpu_engine::store::Store;

use crate::metrics::Metrics;
use crate::model::{Does, Model, Row};
use crate::queue::{Answered, Batch, Job, Queue};
use crate::refusal::{Kind, Refusal};
use crate::server::Ready;
use crate::shapes::{Shapes, lengths, rows_within};

/// Opens a device, as often as one fails.
pub type Open = Box<dyn FnMut() -> Result<Box<dyn Device>, Error> + Send>;

/// Longest wait before a device that failed is opened again.
const MOST_WAIT: Duration = Duration::from_secs(30);

/// Most tokens of the batches that are timed when a model is loaded.
const TIMED_TOKENS: usize = 512;

/// What the thread shares with the routes.
#[derive(Clone, Debug)]
pub struct Shared {
    pub models: Arc<Vec<Model>>,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    /// Whether models are loaded and the device works.
    pub ready: Arc<AtomicBool>,
    pub max_batch_tokens: usize,
}

/// Opens the device and answers batches until the queue is closed; whether the first opening went well is told to
/// `started`. A device that fails is opened again.
pub fn run(shared: &Shared, mut open: Open, started: impl FnOnce(Result<Ready, Error>)) {
    let mut started = Some(started);
    // Of the first opening: what is timed while inputs wait keeps them waiting.
    let mut timed: Option<Vec<Shapes>> = None;
    let mut wait = Duration::from_millis(100);
    loop {
        let loading = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut loaded = Loaded::new(shared, &mut open)?;
            match &timed {
                Some(shapes) => loaded.shapes.clone_from(shapes),
                None => {
                    loaded.time_overheads()?;
                    timed = Some(loaded.shapes.clone());
                }
            }
            Ok(loaded)
        }));
        match loading.unwrap_or_else(|panic| Err(lost(&*panic))) {
            Ok(mut loaded) => {
                shared.ready.store(true, Ordering::SeqCst);
                if let Some(started) = started.take() {
                    started(Ok(loaded.ready()));
                }
                let served = loaded.serve(shared, &mut wait);
                shared.ready.store(false, Ordering::SeqCst);
                if served {
                    return;
                }
            }
            Err(error) => {
                if let Some(started) = started.take() {
                    started(Err(error));
                    return;
                }
                eprintln!("distil-gpu: the device cannot be opened again: {error}");
                let refusal =
                    Refusal::new(Kind::Unready, "the device failed and is being opened again");
                shared.queue.refuse_all(&refusal);
                if shared.queue.is_closed() {
                    return;
                }
            }
        }
        shared.metrics.device_failures.inc();
        shared.queue.wait_closed(wait);
        wait = (2 * wait).min(MOST_WAIT);
    }
}

/// A panic as an error of the device.
fn lost(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let reason = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    Error::DeviceLost { device: "the device".to_owned(), reason: reason.to_owned() }
}

/// A model on the device.
struct OnDevice {
    config: Arc<ModelConfig>,
    does: Does,
    /// Its parameters, which live as long as the device.
    _store: Store,
    /// By number of rows and length.
    programs: BTreeMap<(usize, usize), ProgramId>,
}

/// A device with all models and their plans.
struct Loaded {
    device: Box<dyn Device>,
    models: Vec<OnDevice>,
    shapes: Vec<Shapes>,
    /// Memory that all plans share. It lives as long as the device.
    _scratch: Scratch,
    /// The inputs of each model's plans, on the host.
    batches: Vec<HostBatch>,
    begun: Instant,
}

impl Loaded {
    fn new(shared: &Shared, open: &mut Open) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut device = open()?;
        let exact = device.info().kind == DeviceKind::Cpu;
        let mut plans = Vec::new();
        let mut shapes = Vec::new();
        for model in shared.models.iter() {
            let of_model = plans_of(model, shared.max_batch_tokens, exact)?;
            let rows = of_model
                .iter()
                .map(|(length, plans)| (*length, plans.iter().map(|(rows, _)| *rows).collect()));
            // The answers about each token hang on the length that a text is padded to: see `plans_of`.
            shapes.push(Shapes::new(rows.collect(), model.does != Does::Answers));
            plans.push(of_model);
        }
        let all = plans.iter().flatten().flat_map(|(_, plans)| plans).map(|(_, plan)| plan);
        let scratch = Scratch::new(&mut *device, all)?;
        let mut models = Vec::new();
        for (model, plans) in shared.models.iter().zip(plans) {
            models.push(on_device(&mut *device, model, plans, &scratch)?);
        }
        let batches = models.iter().map(|_| HostBatch::default()).collect();
        let mut loaded = Self { device, models, shapes, _scratch: scratch, batches, begun };
        loaded.warm_up()?;
        Ok(loaded)
    }

    /// Answers one text of each length, so that drivers have compiled what they run; answers that are no numbers are an
    /// error.
    fn warm_up(&mut self) -> Result<(), Error> {
        for model in 0..self.models.len() {
            let config = self.models[model].config.clone();
            let shapes: Vec<(usize, usize)> = self.models[model].programs.keys().copied().collect();
            // On the processor nothing is compiled, and one pass shows that the model answers.
            let count = if self.is_cpu() { 1 } else { shapes.len() };
            let row = any_row(&config);
            for (rows, length) in shapes.into_iter().take(count) {
                let shape = BatchShape { rows, length, guessed: 0 };
                let answers = self.answers(model, shape, &[&row])?;
                if answers.iter().flatten().any(|number| !number.is_finite()) {
                    let name = config.architecture.to_string();
                    return Err(Error::NotFinite(format!("{name} answers with no numbers")));
                }
            }
        }
        Ok(())
    }

    /// Times a small and a large batch of each model, which tell what a batch costs beside its tokens.
    fn time_overheads(&mut self) -> Result<(), Error> {
        for model in 0..self.models.len() {
            let row = any_row(&self.models[model].config);
            let tokens = |(rows, length): &(usize, usize)| rows * (*length).max(1);
            let sizes = self.models[model].programs.keys();
            let small = sizes.clone().min_by_key(|size| tokens(size));
            let large =
                sizes.filter(|size| tokens(size) <= TIMED_TOKENS).max_by_key(|size| tokens(size));
            let (Some(&small), Some(&large)) = (small, large) else { continue };
            let mut time = |size: (usize, usize)| {
                let shape = BatchShape { rows: size.0, length: size.1, guessed: 0 };
                let mut least = f64::INFINITY;
                for _ in 0..3 {
                    let begun = Instant::now();
                    self.answers(model, shape, &[&row])?;
                    least = least.min(begun.elapsed().as_secs_f64());
                }
                Ok::<_, Error>((tokens(&size), least))
            };
            if tokens(&large) > tokens(&small) {
                let overhead = Shapes::measured_overhead(time(small)?, time(large)?);
                self.shapes[model].set_overhead(overhead);
            }
        }
        Ok(())
    }

    fn is_cpu(&self) -> bool {
        self.device.info().kind == DeviceKind::Cpu
    }

    fn ready(&self) -> Ready {
        Ready {
            device: self.device.info().name.clone(),
            bytes: self.device.stats().bytes,
            plans: self.models.iter().map(|model| model.programs.len()).sum(),
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }

    /// Answers batches until the queue is closed and empty, which is told by `true`, or the device fails.
    fn serve(&mut self, shared: &Shared, wait: &mut Duration) -> bool {
        while let Some(Batch { model, bucket, jobs }) = shared.queue.take(&self.shapes) {
            let begun = Instant::now();
            let length = self.shapes[model].length(bucket);
            let shape = BatchShape {
                rows: self.shapes[model].rows(bucket, jobs.len()),
                length,
                guessed: 0,
            };
            let rows: Vec<&Row> = jobs.iter().map(|job| &job.row).collect();
            let answers =
                panic::catch_unwind(AssertUnwindSafe(|| self.answers(model, shape, &rows)));
            match answers.unwrap_or_else(|panic| Err(lost(&*panic))) {
                Ok(answers) => {
                    let inference = begun.elapsed();
                    shared.metrics.batch(&jobs, shape, inference);
                    for (job, numbers) in jobs.into_iter().zip(answers) {
                        let queued = begun.saturating_duration_since(job.since);
                        job.answer(Ok(Answered { numbers, queued, inference }));
                    }
                    *wait = Duration::from_millis(100);
                }
                Err(error) => {
                    eprintln!("distil-gpu: a batch failed: {error}");
                    // Before anybody is told of it: who then asks is to wait.
                    shared.ready.store(false, Ordering::SeqCst);
                    try_again(shared, jobs);
                    return false;
                }
            }
        }
        true
    }

    /// The raw answers to these rows.
    fn answers(
        &mut self,
        model: usize,
        shape: BatchShape,
        rows: &[&Row],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let OnDevice { config, does, programs, .. } = &self.models[model];
        let program =
            programs.get(&(shape.rows, shape.length)).copied().ok_or_else(|| Error::Input {
                name: "batch".to_owned(),
                problem: format!("there is no plan of {shape:?}"),
            })?;
        let batch = &mut self.batches[model];
        fill(config, rows, shape, batch)?;
        let inputs: Vec<_> = batch.inputs().collect();
        self.device.run(program, &StepState::default(), &inputs)?;
        let output = self.device.output(program, LOGITS)?;
        let width = config.answer_len();
        let mut next = 0;
        let of_row = |(at, row): (usize, &&Row)| match does {
            Does::Answers => {
                let half = |half| &output[(2 * at + half) * shape.length..][..row.ids.len()];
                [half(0), half(1)].concat()
            }
            Does::Words => {
                let len = row.places.len() * width;
                next += len;
                output[next - len..next].to_vec()
            }
            _ => output[at * width..][..width].to_vec(),
        };
        Ok(rows.iter().enumerate().map(of_row).collect())
    }
}

/// A row that the model can answer.
fn any_row(config: &ModelConfig) -> Row {
    match &config.input {
        Input::Tokens(_) => Row { ids: vec![0], types: vec![0], ..Row::default() },
        Input::Numbers { .. } => Row { numbers: vec![0.0; config.input.len()], ..Row::default() },
    }
}

/// Gives a batch's inputs their second chance, and refuses those that had it.
fn try_again(shared: &Shared, jobs: Vec<Job>) {
    let (failed, mut first): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.failed_before);
    let refusal = Refusal::new(Kind::Backend, "the device failed on this request, twice");
    failed.into_iter().for_each(|job| job.answer(Err(refusal.clone())));
    first.iter_mut().for_each(|job| job.failed_before = true);
    shared.queue.put_back(first);
}

/// Plans of a length by their numbers of rows.
type PlansOfLength = (usize, Vec<(usize, Plan)>);

/// The plans of a model: for each length those of some numbers of rows.
///
/// On the processor (`exact`) an answer has the same bits whatever shares its batch, and those that `distil-gpu logits`
/// computes: plans whose products would be summed another way than those of the batches that `logits` makes are left out,
/// and the head on whole texts always works on as many rows as there. What a question's head says of tokens hangs on the
/// length alone, so texts of one length go together there.
fn plans_of(model: &Model, budget: usize, exact: bool) -> Result<Vec<PlansOfLength>, Error> {
    let config = &model.config;
    let offline = distil_gpu_engine::measure::batches::rows(config);
    let plan = |rows, length| {
        let head = if exact { offline } else { rows };
        let shape = BatchShape { rows, length, guessed: 0 };
        forward_plan_with_head(config, model.storage, shape, head)
    };
    let mut all = Vec::new();
    for length in lengths(model.max_length()) {
        let mut plans = Vec::new();
        let reference = if exact { Some(plan(offline, length)?) } else { None };
        for rows in rows_within(length, budget) {
            let plan = plan(rows, length)?;
            if reference.as_ref().is_none_or(|reference| plan.sums_as(reference)) {
                plans.push((rows, plan));
            }
        }
        if let (true, Some(reference)) = (plans.is_empty(), reference) {
            plans.push((offline, reference));
        }
        all.push((length, plans));
    }
    Ok(all)
}

/// Loads a model's parameters and plans.
fn on_device(
    device: &mut dyn Device,
    model: &Model,
    plans: Vec<PlansOfLength>,
    scratch: &Scratch,
) -> Result<OnDevice, Error> {
    let (_, values) = models::load(&model.named.folder)?;
    let config = model.config.clone();
    let store = frozen_store(device, &config, &values, model.storage)?;
    drop(values);
    let mut programs = BTreeMap::new();
    for (length, plans) in plans {
        for (rows, plan) in plans {
            let place = |part: distil_gpu_engine::store::StorePart| {
                scratch.buffer(part).or_else(|| store.buffer(part.part, part.segment))
            };
            programs.insert((rows, length), device.load(&Scratch::shared(plan), &place)?);
        }
    }
    Ok(OnDevice { config, does: model.does, _store: store, programs })
}

/// Writes the inputs of a batch.
fn fill(
    config: &ModelConfig,
    rows: &[&Row],
    shape: BatchShape,
    batch: &mut HostBatch,
) -> Result<(), Error> {
    match &config.input {
        Input::Tokens(input) => {
            let texts: Vec<(&[i32], &[i32])> =
                rows.iter().map(|row| (&*row.ids, &*row.types)).collect();
            batch.texts(input, shape, &texts);
            if input.pooling == Pooling::Words {
                let places = rows.iter().enumerate().flat_map(|(at, row)| {
                    row.places.iter().map(move |place| at * shape.length + place)
                });
                let places: Vec<usize> = places.collect();
                batch.places(config.input.labels(shape), &places);
            }
        }
        Input::Numbers { shape: of_one, .. } => {
            let values: Vec<f32> =
                rows.iter().flat_map(|row| row.numbers.iter().copied()).collect();
            let numbers = Numbers::new(Features::F32(values), of_one.clone())?;
            let examples = Examples::from(numbers);
            let feed = BatchEncoder::new(&config.input, &examples)?;
            let indices: Vec<u32> = (0..rows.len() as u32).collect();
            feed.fill(&indices, shape, Draw::FIXED, batch);
        }
    }
    Ok(())
}
