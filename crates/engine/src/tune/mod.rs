//! Times the variants of kernels on a device, and has it run the fastest of those that compute right.

mod cache;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use distil_gpu_kernels::{Kernel, StepState, Variant};
use serde::Serialize;

pub use cache::{Bucket, Cache, FOLDER_VARIABLE};

use crate::bench::{median, seconds};
use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::verify::kernel::{Forced, Loaded};
use crate::verify::{Case, Distance};

/// Operations up to which the f64 oracle says what is right; above, the kernel's own choice does.
const ORACLE_FLOPS: u64 = 4_000_000_000;
/// How much less time another variant must take than the kernel's own choice: less is noise.
const LEAST_GAIN: f64 = 0.03;
/// Time for each variant.
const BUDGET: Duration = Duration::from_millis(60);

/// What was found of kernels that are alike.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The kernel.
    pub kernel: &'static str,
    /// What they have in common.
    pub bucket: String,
    /// The variant that the kernel chooses by itself.
    pub default: String,
    /// Each variant's time, what was refused, and the one that was chosen.
    #[serde(flatten)]
    pub found: Bucket,
}

impl Finding {
    /// How many times as fast the chosen variant is as the kernel's own choice.
    pub fn gain(&self) -> Option<f64> {
        let time = |variant: &String| self.found.microseconds.get(variant);
        Some(time(&self.default)? / self.found.chosen.as_ref().and_then(time)?)
    }
}

/// Times all variants of these kernels that `cache` does not know yet, one kernel for each bucket.
/// `progress` is told how many buckets of how many are done. A device with timestamps is timed by them.
///
/// # Errors
/// When the device is lost, which is held against the variant that ran; when the cache cannot be written.
pub fn tune(
    device: &mut dyn Device,
    kernels: &[Arc<dyn Kernel>],
    cache: &mut Cache,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Finding>, Error> {
    let kernels = distinct(kernels, device);
    let mut findings = Vec::new();
    for (done, kernel) in kernels.iter().enumerate() {
        progress(done, kernels.len());
        findings.push(tune_bucket(device, kernel, cache)?);
    }
    progress(kernels.len(), kernels.len());
    Ok(findings)
}

/// Whether `cache` has no choice yet for one of these kernels that could have one.
pub fn is_needed(device: &dyn Device, kernels: &[Arc<dyn Kernel>], cache: &mut Cache) -> bool {
    distinct(kernels, device)
        .iter()
        .any(|kernel| cache.bucket(kernel.name(), &kernel.bucket()).chosen.is_none())
}

/// The kernels that have several variants, one for each bucket.
fn distinct(kernels: &[Arc<dyn Kernel>], device: &dyn Device) -> Vec<Arc<dyn Kernel>> {
    let (mut seen, caps) = (HashSet::new(), device.caps());
    let new = |kernel: &&Arc<dyn Kernel>| seen.insert((kernel.name(), kernel.bucket()));
    let kernels = kernels.iter().filter(new);
    kernels.filter(|kernel| kernel.variants(&caps).len() > 1).cloned().collect()
}

fn tune_bucket(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    cache: &mut Cache,
) -> Result<Finding, Error> {
    let variants = kernel.variants(&device.caps());
    let (name, bucket) = (kernel.name(), kernel.bucket());
    let mut case = None;
    for variant in &variants {
        let known = cache.bucket(name, &bucket);
        if known.microseconds.contains_key(&variant.name)
            || known.refused.contains_key(&variant.name)
        {
            continue;
        }
        cache.trying(name, &bucket, &variant.name)?;
        let result = match &mut case {
            Some(case) => Ok(case),
            None => Reference::of(device, kernel).map(|made| case.insert(made)),
        }
        .and_then(|case| case.time(device, variant));
        let (result, end) = match result {
            Ok(timed) => (Some(timed.map(|seconds| seconds * 1e6)), None),
            Err(error @ Error::Kernel { .. }) => (Some(Err(error.to_string())), None),
            Err(error @ Error::DeviceLost { .. }) => (Some(Err(error.to_string())), Some(error)),
            // No fault of the variant's.
            Err(error) => (None, Some(error)),
        };
        cache.tried(name, &bucket, &variant.name, result)?;
        if let Some(end) = end {
            return Err(end);
        }
    }
    let default = variants[0].name.clone();
    let found = cache.bucket(name, &bucket);
    found.chosen = fastest(found, &default);
    let found = found.clone();
    cache.write()?;
    Ok(Finding { kernel: name, bucket, default, found })
}

/// The variant of least time, if that is worth leaving the default for; none if no variant computes right.
fn fastest(found: &Bucket, default: &str) -> Option<String> {
    let least = found.microseconds.iter().min_by(|a, b| a.1.total_cmp(b.1))?;
    match found.microseconds.get(default) {
        Some(time) if *least.1 > time * (1.0 - LEAST_GAIN) => Some(default.to_owned()),
        _ => Some(least.0.clone()),
    }
}

/// A kernel with operands and its right results.
struct Reference {
    case: Case,
    expected: Vec<Vec<f64>>,
}

impl Reference {
    fn of(device: &mut dyn Device, kernel: &Arc<dyn Kernel>) -> Result<Self, Error> {
        // Around 0.5, so that no sum is a small difference of large parts; and all of it work.
        let case = Case::filled(kernel.clone(), -1.0, 2.0).unpadded();
        let expected = match kernel.cost().flops <= ORACLE_FLOPS {
            true => case.expected()?,
            false => case.found(device, kernel)?,
        };
        Ok(Self { case, expected })
    }

    /// Median seconds of a variant, or how its results are wrong.
    fn time(
        &self,
        device: &mut dyn Device,
        variant: &Variant,
    ) -> Result<Result<f64, String>, Error> {
        let kernel = self.case.kernel.clone();
        let launches = variant.launches.clone();
        let forced: Arc<dyn Kernel> = Arc::new(Forced { kernel, launches });
        Loaded::with(device, &forced, &self.case.data, |device, loaded| {
            loaded.run(device, &self.case.state)?;
            let found = loaded.written(device)?;
            let distances = self.case.distances_of(&variant.name, &found, &self.expected);
            let wrong =
                |distance: &&Distance| distance.error.is_nan() || distance.error > distance.limit;
            if let Some(Distance { error, limit, .. }) = distances.iter().find(wrong) {
                let reason =
                    format!("it computes wrong: an NMSE of {error:.1e}, allowed are {limit:.1e}");
                return Ok(Err(reason));
            }
            time(device, loaded.program, &self.case.state).map(Ok)
        })
    }
}

/// Median seconds of a program that has run, its inputs with it: by the device's timestamps, else by the clock.
fn time(device: &mut dyn Device, program: ProgramId, state: &StepState) -> Result<f64, Error> {
    let run = |device: &mut dyn Device| device.run(program, state, &[]);
    if device.timings(program)?.is_none() {
        return seconds(device, BUDGET, run);
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < BUDGET {
        run(device)?;
        let timings = device.timings(program)?.unwrap_or_default();
        times.push(timings.iter().map(|(_, time)| time.as_secs_f64()).sum());
    }
    Ok(median(times))
}
