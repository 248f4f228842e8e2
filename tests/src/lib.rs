//! What the tests share: every device there is, random numbers, comparisons, and how to run one kernel
//! or one graph and read what it made.
//!
//! Most of it is the engine's own verification, which runs on users' machines too.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixtures;
mod kernel;
pub mod mutate;
pub mod readers;
mod session;
pub mod slopes;
mod stop;

use distil_gpu_engine::device::{CpuDevice, Device, GpuDevice, GpuOptions, adapters};
use distil_gpu_engine::verify::numbers::distance;

pub use distil_gpu_engine::session::Session;
pub use distil_gpu_engine::verify::kernel::{Data, Forced, filled, run_kernel, variants};
pub use distil_gpu_engine::verify::numbers::{narrow, nmse, random, random_in, random_labels};
pub use distil_gpu_engine::verify::oracle;
pub use fixtures::{Fixtures, fixtures, model_folder};
pub use kernel::{assert_checked_alike, hold};
pub use session::{
    graph_of, layout_of, mlp, mlp_layout, parameters, session, some_state, values_of,
};
pub use stop::StopAfter;

/// Every GPU driver of this machine, with the shaders' checks left out as in use, or kept.
///
/// # Panics
/// When there is none: a test that found nothing to test must not pass.
pub fn gpus(checked: bool) -> Vec<GpuDevice> {
    let adapters = adapters();
    assert!(!adapters.is_empty(), "no GPU driver: run the tests through tests/run.sh");
    let options = GpuOptions { checked, ..GpuOptions::default() };
    adapters.iter().map(|adapter| GpuDevice::new(adapter, options).unwrap()).collect()
}

/// Every device that computes in f32: all GPUs, then the CPU path.
pub fn devices() -> Vec<Box<dyn Device>> {
    let gpus = gpus(false).into_iter().map(|gpu| Box::new(gpu) as Box<dyn Device>);
    gpus.chain([Box::new(CpuDevice::<f32>::new()) as Box<dyn Device>]).collect()
}

/// Whether a device is too slow for the largest shapes: SwiftShader takes ten times lavapipe's time.
pub fn is_slow(device: &dyn Device) -> bool {
    device.info().name.contains("SwiftShader")
}

/// The largest distance of two elements.
///
/// # Panics
/// When the lengths differ.
pub fn max_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |worst, (&f, &e)| f64::max(worst, distance(f, e)))
}

/// Holds an NMSE to a limit, and prints it.
///
/// # Panics
/// When it is above the limit.
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], limit: f64) {
    let error = nmse(found, expected);
    println!("{error:9.1e}  {what}");
    if error <= limit {
        return;
    }
    let far = |i: &usize| distance(found[*i], expected[*i]);
    let worst = (0..found.len()).max_by(|a, b| far(a).total_cmp(&far(b))).unwrap();
    panic!(
        "{what}: NMSE {error:e} is above {limit:e}; element {worst} of {} is {} and not {}",
        found.len(),
        found[worst],
        expected[worst]
    );
}
