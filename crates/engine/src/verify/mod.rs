//! Verification: the kernels and whole training steps, as a device runs them, held to the f64 oracle.
//!
//! [`check`] takes every kernel over many shapes, and small models of every family. [`recipe`] takes what
//! one recipe will run: its kernels at its shapes, and its training steps.

mod attention_cases;
mod block_cases;
pub mod cases;
mod f16_cases;
mod feature_cases;
pub mod kernel;
mod layer_cases;
mod loss_cases;
pub mod numbers;
mod part_cases;
mod registry;
mod steps;
mod update_cases;
mod vision_cases;

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use serde::Serialize;

pub use cases::Case;
pub use registry::{KERNELS, Verified};
pub use steps::{Batch, KINKS, Models, ROUNDING, StepCase, Trainings, made_up, made_up_length};

use crate::device::{CpuDevice, Device};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::run::Setup;
use crate::words::nearest;

/// The device everything else is held to.
pub fn oracle() -> CpuDevice<f64> {
    CpuDevice::new()
}

/// How far one result is from the oracle's.
#[derive(Clone, Debug)]
pub struct Distance {
    /// What was compared.
    pub what: String,
    /// NMSE.
    pub error: f64,
    /// The largest NMSE that rounding explains.
    pub limit: f64,
}

/// Which variants of a kernel are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variants {
    /// What the device runs: the kernel's own choice, or what it was tuned to.
    InUse,
    /// All that tuning could choose, and what other devices would run.
    All,
}

/// All results of one kernel, or of the trainings of one kind of model.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The kernel, or the training.
    pub name: String,
    /// Results compared.
    pub results: usize,
    /// The NMSE nearest to its limit, or farthest above it; absent where nothing could be compared.
    pub error: Option<f64>,
    /// That limit.
    pub limit: Option<f64>,
    /// What that result was.
    pub worst: String,
    /// Whether all results are within their limits.
    pub ok: bool,
    /// What the device or its driver refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// What was found on one device.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub device: String,
    /// `Vulkan`, `Metal`, `Dx12` or `cpu`.
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// Kernels, then trainings.
    pub rows: Vec<Row>,
    /// Whether all rows are.
    pub ok: bool,
    /// Wall time.
    pub seconds: f64,
}

impl Report {
    fn new(device: &dyn Device) -> Self {
        let info = device.info();
        Self {
            device: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            rows: Vec::new(),
            ok: true,
            seconds: 0.0,
        }
    }

    /// Adds results to the row of that name. Only a lost device is an error: all else is a finding.
    fn add(&mut self, name: &str, results: Result<Vec<Distance>, Error>) -> Result<(), Error> {
        let known = self.rows.iter().position(|row| row.name == name);
        let index = known.unwrap_or_else(|| {
            let (name, worst) = (name.to_owned(), String::new());
            let (error, limit, refused) = (None, None, Vec::new());
            self.rows.push(Row { name, results: 0, error, limit, worst, ok: true, refused });
            self.rows.len() - 1
        });
        let row = &mut self.rows[index];
        match results {
            Ok(distances) => {
                for Distance { what, error, limit } in distances {
                    row.results += 1;
                    // What is no number is above every limit.
                    row.ok &= error <= limit;
                    let used =
                        row.error.zip(row.limit).map_or(-1.0, |(error, limit)| share(error, limit));
                    if share(error, limit) > used || error.is_nan() {
                        (row.error, row.limit, row.worst) = (Some(error), Some(limit), what);
                    }
                }
            }
            Err(lost @ Error::DeviceLost { .. }) => return Err(lost),
            Err(refusal) => {
                row.ok = false;
                row.refused.push(refusal.to_string());
            }
        }
        self.ok &= row.ok;
        Ok(())
    }

    /// The findings in one sentence.
    pub fn sentence(&self) -> String {
        let off: Vec<&str> =
            self.rows.iter().filter(|row| !row.ok).map(|row| row.name.as_str()).collect();
        let results: usize = self.rows.iter().map(|row| row.results).sum();
        let Self { device, .. } = self;
        if off.is_empty() {
            return format!(
                "{device} computes right: all {results} results agree with the f64 reference."
            );
        }
        format!(
            "{device} computes wrong: {} off. Do not trust models trained on it: update its driver, or use \
             --device cpu.",
            match off[..] {
                [one] => format!("{one} is"),
                _ => format!("{} are", off.join(", ")),
            }
        )
    }
}

/// Told how many results of how many are in.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Verifies every kernel and small trainings of every kind of model; with `only`, the kernel of that name.
///
/// # Errors
/// [`Error::Unsupported`] when there is no kernel of that name; when the device is lost. What it computes wrong, or
/// refuses, is in the report.
pub fn check(
    device: &mut dyn Device,
    variants: Variants,
    only: Option<&str>,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    let mut cases = cases::all(&device.caps());
    let Some(only) = only else {
        return verify(device, &cases, &Models::default().lessons(), variants, progress);
    };
    named(only, cases.iter().map(|case| case.kernel.name()), "no kernel")?;
    cases.retain(|case| case.kernel.name() == only);
    verify(device, &cases, &[], variants, progress)
}

/// Makes sure that a kernel is among those there are; `problem` says what it is else.
///
/// # Errors
/// [`Error::Unsupported`] with the nearest name, and all.
pub(crate) fn named(
    name: &str,
    kernels: impl Iterator<Item = &'static str>,
    problem: &str,
) -> Result<(), Error> {
    let kernels: Vec<&str> = kernels.collect::<BTreeSet<_>>().into_iter().collect();
    if kernels.contains(&name) {
        return Ok(());
    }
    let all = format!("the kernels are {}", kernels.join(", "));
    Err(Error::Unsupported {
        what: format!("`{name}` is {problem}"),
        instead: match nearest(name, &kernels) {
            Some(near) => format!("did you mean `{near}`? If not, {all}"),
            None => all,
        },
    })
}

/// Verifies these kernels and trainings, but for those with f16 on a device that has none.
///
/// # Errors
/// When the device is lost.
pub fn verify(
    device: &mut dyn Device,
    cases: &[Case],
    lessons: &[StepCase<'_>],
    variants: Variants,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    let start = Instant::now();
    let caps = device.caps();
    let cases: Vec<&Case> = cases.iter().filter(|case| case.fits(&caps)).collect();
    let lessons: Vec<&StepCase<'_>> = lessons.iter().filter(|lesson| lesson.fits(&caps)).collect();
    let total = cases.len() + lessons.len();
    let mut report = Report::new(device);
    for (done, case) in cases.iter().enumerate() {
        progress(done, total);
        let distances = case.distances(device, variants);
        report.add(case.kernel.name(), distances)?;
    }
    for (done, lesson) in (cases.len()..).zip(&lessons) {
        progress(done, total);
        let distances = lesson.distances(device);
        report.add(&lesson.name, distances)?;
    }
    progress(total, total);
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Verifies what trainings will run: each kernel of their plans at its shapes, and their first steps.
///
/// # Errors
/// When a plan cannot be made, or the device is lost.
pub fn trainings(
    device: &mut dyn Device,
    lessons: &[StepCase<'_>],
    progress: Progress<'_>,
) -> Result<Report, Error> {
    let (mut seen, mut cases) = (HashSet::new(), Vec::new());
    for lesson in lessons {
        for call in lesson.plan()?.calls {
            if seen.insert(format!("{:?}", call.kernel)) {
                // Around 0.5, so that no sum is a small difference of large parts.
                cases.push(Case::filled(call.kernel, -1.0, 2.0).at(lesson.batch(1).state));
            }
        }
    }
    verify(device, &cases, lessons, Variants::InUse, progress)
}

/// Verifies the trainings of a recipe, on random data of its shapes.
///
/// # Errors
/// When a plan cannot be made, or the device is lost.
pub fn recipe(
    device: &mut dyn Device,
    recipe: &Recipe,
    setup: &Setup,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    recipe.precision.check(&device.caps(), &device.info().name)?;
    trainings(device, &Trainings::of(recipe, setup).all(), progress)
}

/// How much of a limit an error is; copies may have none at all.
fn share(error: f64, limit: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / limit }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
    use distil_gpu_kernels::{Args, Caps, Cost, Kernel, Launch, Operand, StepState};

    use super::kernel::Forced;
    use super::*;
    use crate::device::{GpuDevice, GpuOptions, adapters};

    const SUM: Reduce =
        Reduce { op: ReduceOp::Sum, outer: 40, len: 30, inner: 1, accumulate: false };

    /// A sum whose f32 twin counts each row's first element 0.1 % too high.
    #[derive(Clone, Debug)]
    struct Wrong;

    impl Kernel for Wrong {
        fn name(&self) -> &'static str {
            "reduce"
        }
        fn operands(&self) -> Vec<Operand> {
            SUM.operands()
        }
        fn launches(&self, caps: &Caps) -> Vec<Launch> {
            SUM.launches(caps)
        }
        fn cost(&self) -> Cost {
            SUM.cost()
        }
        fn run_f32(&self, args: Args<'_, f32>, state: &StepState) {
            let mut x = args.read(0).to_vec();
            x.iter_mut().step_by(SUM.len).for_each(|x| *x *= 1.001);
            let mut args = args;
            let args = vec![
                distil_gpu_kernels::Arg::Read(&x),
                distil_gpu_kernels::Arg::Write(args.write(1)),
            ];
            SUM.run_f32(Args::new(args), state);
        }
        fn run_f64(&self, args: Args<'_, f64>, state: &StepState) {
            SUM.run_f64(args, state);
        }
    }

    fn verified(device: &mut dyn Device, cases: &[Case]) -> Report {
        verify(device, cases, &[], Variants::All, &mut |_, _| ()).unwrap()
    }

    #[test]
    fn a_twin_off_by_a_thousandth_is_found() {
        let right = Case::random(flat(), -1.0, 1.0);
        let report =
            verified(&mut CpuDevice::<f32>::new(), &[right, Case::random(Wrong, -1.0, 2.0)]);
        let rows: Vec<(&str, bool)> =
            report.rows.iter().map(|row| (row.name.as_str(), row.ok)).collect();
        assert_eq!(rows, [("elementwise", true), ("reduce", false)]);
        assert!(!report.ok && report.sentence().contains("wrong: reduce is off"), "{report:?}");
        // The f64 device is the oracle itself.
        assert!(verified(&mut oracle(), &[Case::random(Wrong, -1.0, 2.0)]).ok);
    }

    fn flat() -> distil_gpu_kernels::elementwise::Elementwise {
        cases::flat(vec![distil_gpu_kernels::chain::Stage::Relu], 0, 100)
    }

    #[test]
    fn a_launch_that_leaves_rows_out_is_found() {
        let adapters = adapters();
        assert!(!adapters.is_empty(), "no GPU driver: run the tests through tests/run.sh");
        for adapter in adapters {
            let mut device = GpuDevice::new(&adapter, GpuOptions::default()).unwrap();
            let mut launches = SUM.launches(&device.caps());
            assert!(verified(&mut device, &[Case::random(SUM, -1.0, 2.0)]).ok);
            launches[0].workgroups[0] -= 1;
            let wrong = Forced { kernel: Arc::new(SUM), launches: launches.clone() };
            let report = verified(&mut device, &[Case::random(wrong, -1.0, 2.0)]);
            assert!(!report.ok && report.rows[0].error.unwrap() > 1e-3, "{report:?}");
            // What cannot run at all is told as well.
            launches[0].entry = "nowhere";
            let wrong = Forced { kernel: Arc::new(SUM), launches };
            let report = verified(&mut device, &[Case::random(wrong, -1.0, 2.0)]);
            assert!(!report.ok && report.rows[0].refused.len() == 1, "{report:?}");
        }
    }

    #[test]
    fn the_cpu_path_passes() {
        let mut device = CpuDevice::<f32>::new();
        let mut cases = cases::all(&device.caps());
        for row in KERNELS {
            let own = cases.iter().any(|case| case.kernel.name() == row.kernel);
            assert!(own, "{} has no cases", row.kernel);
        }
        cases.retain(|case| case.elements() < 100_000);
        let models = Models::default();
        let lessons = models.lessons();
        let report = verify(&mut device, &cases, &lessons, Variants::All, &mut |_, _| ()).unwrap();
        assert!(report.ok, "{report:#?}");
    }
}
