//! Measures a device at a recipe's work: training steps, forward passes, each kernel, and the roofs that
//! kernels are measured against.

mod baseline;
mod roofs;
mod scaling;

use std::time::{Duration, Instant};

use distil_gpu_kernels::StepState;
use serde::Serialize;

pub use baseline::{Baseline, Change, Comparison};
pub use roofs::{Roofs, plan_of};
pub use scaling::{Growth, Point, scaling};

use crate::device::{Choice, Device, GpuOptions, HostTensor, select};
use crate::error::Error;
use crate::models::{BatchShape, HostBatch, ModelConfig};
use crate::objective::{LOGITS, forward_plan_in};
use crate::plan::Precision;
use crate::recipe::Recipe;
use crate::run::Setup;
use crate::session::Session;
use crate::store::{Layout, Storage, Stored};
use crate::tune::Cache;
use crate::verify::{self, StepCase, Trainings, made_up, made_up_length};

/// Rows of the forward passes that are timed.
const FORWARD_ROWS: [usize; 2] = [1, 256];
/// Runs that count for nothing: pipelines, caches and clocks settle.
const WARM_UP: usize = 3;
/// Least time between two looks at the clock: a GPU has the next step while it works on one.
const SLICE: Duration = Duration::from_millis(40);

/// Something done over and over.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// What.
    pub name: String,
    /// Examples of one run.
    pub rows: usize,
    /// Median time of one run.
    pub milliseconds: f64,
    /// Examples a second.
    pub examples_per_second: f64,
    /// Operations a second, in 10⁹.
    pub gflops: f64,
}

/// One kernel call of a distillation step, or several that are alike.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTime {
    /// The kernel and the tensor it makes.
    pub name: String,
    /// Calls in a step.
    pub calls: usize,
    /// Median time of all of them together.
    pub microseconds: f64,
    /// Operations a second, in 10⁹.
    pub gflops: f64,
    /// Bytes that must be moved a second, in 10⁹.
    pub gigabytes_per_second: f64,
    /// Share of the roof nearer to it, arithmetic or memory. Above 1 where the tensors stay in caches.
    pub share_of_roof: f64,
}

/// How long a person waits before the first step, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Startup {
    /// To find the device and open it.
    pub open_ms: f64,
    /// To plan a distillation step, compile its kernels, and make room for its tensors.
    pub load_ms: f64,
    /// That step, the first time.
    pub first_step_ms: f64,
}

/// What was measured on one device.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub device: String,
    /// `Vulkan`, `Metal`, `Dx12` or `cpu`.
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// What it reaches at best.
    pub roofs: Roofs,
    /// What comes before the first step.
    pub startup: Startup,
    /// Training steps of the student, then forward passes; none where one kernel was asked for.
    pub throughput: Vec<Throughput>,
    /// A distillation step, kernel by kernel, the longest first; absent where the device has no timestamps.
    pub kernels: Option<Vec<KernelTime>>,
}

/// Measures a device at the work of a recipe, with random data and the variants that it was tuned to; in f32 where the
/// recipe is mixed and the device has no f16. Each measurement takes about `budget`; `progress` is told what comes next.
/// With `only`, the kernel of that name is timed as a distillation step calls it, and neither steps nor forward passes are.
///
/// # Errors
/// When the recipe or the device cannot be used, or a distillation step has no kernel of that name.
pub fn bench(
    choice: Choice,
    recipe: &Recipe,
    budget: Duration,
    only: Option<&str>,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let mut trainings = Trainings::of(recipe, &Setup::read(recipe, None)?);
    progress("start");
    let opening = Instant::now();
    let mut selected = select(choice, GpuOptions::default())?;
    let open_ms = milliseconds(opening);
    let device = &mut *selected.device;
    if !device.caps().f16 {
        trainings.precision = Precision::F32;
    }
    let lessons = trainings.students();
    let variants = Cache::open(device.info()).map(|cache| cache.choices()).unwrap_or_default();
    device.choose(variants.clone());
    // With the teacher: the last, as embeddings have no other.
    let distilled = lessons.last().expect("a student learns from its teacher");
    if let Some(only) = only {
        let calls = distilled.plan()?.calls;
        let kernels = calls.iter().map(|call| call.kernel.name());
        verify::named(only, kernels, "no kernel of this recipe's distillation step")?;
    }
    let startup = startup(device, distilled, open_ms)?;
    progress("roofs");
    let roofs = Roofs::measure(device, budget)?;
    let throughput = match only {
        None => whole(device, &trainings, &lessons, budget, progress)?,
        Some(_) => Vec::new(),
    };
    let info = device.info().clone();
    drop(selected);

    progress("kernels");
    // Timestamps cost time themselves: what is above was measured without.
    let mut timed = select(choice, GpuOptions { timestamps: true, ..GpuOptions::default() })?;
    timed.device.choose(variants);
    let kernels = kernels(&mut *timed.device, distilled, only, roofs, budget)?;
    let (device, backend, driver) = (info.name, info.backend, info.driver);
    Ok(Report { device, backend, driver, roofs, startup, throughput, kernels })
}

/// Training steps of the student, then forward passes.
fn whole(
    device: &mut dyn Device,
    trainings: &Trainings,
    lessons: &[StepCase<'_>],
    budget: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Throughput>, Error> {
    let mut found = Vec::new();
    for lesson in lessons {
        progress(&lesson.name);
        found.push(training(device, lesson, budget)?);
    }
    let teacher = trainings
        .teacher
        .as_ref()
        .map(|(config, _)| ("teacher", config, (&*trainings.types).into()));
    let student = ("student", &trainings.student, Storage::F32.into());
    for (name, config, stored) in teacher.into_iter().chain([student]) {
        for rows in FORWARD_ROWS {
            progress(&format!("{name} forward, {rows}"));
            found.push(forward(device, name, (config, stored), rows, budget)?);
        }
    }
    Ok(found)
}

/// The median of some numbers.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median seconds of `work`, run for about `budget` in slices that end when the device is done.
pub(crate) fn seconds(
    device: &mut dyn Device,
    budget: Duration,
    mut work: impl FnMut(&mut dyn Device) -> Result<(), Error>,
) -> Result<f64, Error> {
    for _ in 0..WARM_UP {
        work(device)?;
    }
    device.wait()?;
    let start = Instant::now();
    let mut slices = Vec::new();
    while slices.is_empty() || start.elapsed() < budget {
        let slice = Instant::now();
        let mut runs = 0;
        while runs == 0 || slice.elapsed() < SLICE {
            work(device)?;
            runs += 1;
        }
        device.wait()?;
        slices.push(slice.elapsed().as_secs_f64() / f64::from(runs));
    }
    Ok(median(slices))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// From an opened device on which nothing has run yet to the end of the first step.
fn startup(device: &mut dyn Device, lesson: &StepCase<'_>, open_ms: f64) -> Result<Startup, Error> {
    let batch = lesson.batch(0);
    let loading = Instant::now();
    let mut session = lesson.session(device)?;
    let load_ms = milliseconds(loading);
    let running = Instant::now();
    batch.run(&mut session)?;
    session.device.wait()?;
    Ok(Startup { open_ms, load_ms, first_step_ms: milliseconds(running) })
}

fn throughput(name: String, rows: usize, flops: u64, seconds: f64) -> Throughput {
    Throughput {
        name,
        rows,
        milliseconds: seconds * 1e3,
        examples_per_second: rows as f64 / seconds,
        gflops: flops as f64 / seconds / 1e9,
    }
}

/// Training steps, the batch handed over from the host at each.
fn training(
    device: &mut dyn Device,
    lesson: &StepCase<'_>,
    budget: Duration,
) -> Result<Throughput, Error> {
    let batch = lesson.batch(0);
    let session = lesson.session(device)?;
    let (program, flops) = (session.program, session.plan.cost().flops);
    let inputs = batch.inputs();
    let seconds =
        seconds(session.device, budget, |device| device.run(program, &batch.state, &inputs))?;
    Ok(throughput(lesson.name.clone(), lesson.rows, flops, seconds))
}

/// Forward passes, from host memory to host memory.
fn forward(
    device: &mut dyn Device,
    name: &str,
    (config, stored): (&ModelConfig, Stored<'_>),
    rows: usize,
    budget: Duration,
) -> Result<Throughput, Error> {
    let layout = Layout::stored(config.model().parameters(), stored)?;
    let shape = BatchShape { rows, length: made_up_length(&config.input), guessed: 0 };
    let mut session = Session::new(device, forward_plan_in(config, stored, shape)?, [layout])?;
    session.initialise(1)?;
    let (program, flops) = (session.program, session.plan.cost().flops);
    let mut batch = HostBatch::default();
    made_up(&config.input, shape, 1, &mut batch);
    // Masked tokens are written with labels, which a forward pass does not read.
    let inputs: Vec<(&str, HostTensor<'_>)> =
        batch.inputs().filter(|(name, _)| session.plan.input(name).is_some()).collect();
    let seconds = seconds(session.device, budget, |device| {
        device.run(program, &StepState::default(), &inputs)?;
        device.output(program, LOGITS).map(|_| ())
    })?;
    Ok(throughput(format!("forward: {name}"), rows, flops, seconds))
}

/// Times of a training step's kernels, or of one of them.
fn kernels(
    device: &mut dyn Device,
    lesson: &StepCase<'_>,
    only: Option<&str>,
    roofs: Roofs,
    budget: Duration,
) -> Result<Option<Vec<KernelTime>>, Error> {
    let batch = lesson.batch(0);
    let mut session = lesson.session(device)?;
    for _ in 0..WARM_UP {
        batch.run(&mut session)?;
    }
    let calls = session.plan.calls.len();
    let mut times = vec![Vec::new(); calls];
    let start = Instant::now();
    while times[0].is_empty() || start.elapsed() < budget {
        batch.run(&mut session)?;
        let Some(timings) = session.device.timings(session.program)? else { return Ok(None) };
        for (times, (_, time)) in times.iter_mut().zip(timings) {
            times.push(time.as_secs_f64());
        }
    }
    let mut rows: Vec<(String, usize, f64, distil_gpu_kernels::Cost)> = Vec::new();
    let asked = |kernel: &str| only.is_none_or(|only| only == kernel);
    let calls = session.plan.calls.iter().zip(times);
    for (call, times) in calls.filter(|(call, _)| asked(call.kernel.name())) {
        let (cost, time) = (call.kernel.cost(), median(times));
        match rows.iter_mut().find(|(name, ..)| *name == call.label) {
            Some((_, calls, sum, costs)) => {
                (*calls, *sum, *costs) = (*calls + 1, *sum + time, *costs + cost);
            }
            None => rows.push((call.label.clone(), 1, time, cost)),
        }
    }
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let row = |(name, calls, time, cost): (String, usize, f64, distil_gpu_kernels::Cost)| {
        let flops = cost.flops as f64 / time;
        let bytes = (cost.bytes_read + cost.bytes_written) as f64 / time;
        KernelTime {
            name,
            calls,
            microseconds: time * 1e6,
            gflops: flops / 1e9,
            gigabytes_per_second: bytes / 1e9,
            share_of_roof: roofs.share(flops, bytes),
        }
    };
    Ok(Some(rows.into_iter().map(row).collect()))
}
