//! What the tests share: every device there is, random numbers, comparisons, and how to run one kernel
//! or one graph and read what it made.
//!
//! Values are `Vec<f64>` on the host: exact for the f64 oracle, and for f32 devices whenever the numbers
//! came from [`random`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kernel;
mod session;

use distil_gpu_engine::device::{
    BufferId, CpuDevice, CpuReal, Device, GpuDevice, GpuOptions, ProgramId, adapters,
};

pub use kernel::{Data, Forced, assert_checked_alike, check, filled, run_kernel, variants};
pub use session::{
    Session, graph_of, layout_of, mlp, mlp_layout, parameters, some_state, values_of,
};

/// A device whose values a test reads and writes without losing what the device itself holds.
pub trait TestDevice: Device {
    /// Reads a buffer.
    fn get(&mut self, id: BufferId, offset: usize, len: usize) -> Vec<f64>;
    /// Writes a buffer.
    fn set(&mut self, id: BufferId, offset: usize, values: &[f64]);
    /// Reads an output of the last run.
    fn get_output(&mut self, program: ProgramId, name: &str) -> Vec<f64>;
}

impl<F: CpuReal> TestDevice for CpuDevice<F> {
    fn get(&mut self, id: BufferId, offset: usize, len: usize) -> Vec<f64> {
        self.read_exact(id, offset, len)
    }
    fn set(&mut self, id: BufferId, offset: usize, values: &[f64]) {
        self.write_exact(id, offset, values);
    }
    fn get_output(&mut self, program: ProgramId, name: &str) -> Vec<f64> {
        self.output_exact(program, name).unwrap()
    }
}

impl TestDevice for GpuDevice {
    fn get(&mut self, id: BufferId, offset: usize, len: usize) -> Vec<f64> {
        widen(&self.read(id, offset, len).unwrap())
    }
    fn set(&mut self, id: BufferId, offset: usize, values: &[f64]) {
        self.write(id, offset, &narrow(values)).unwrap();
    }
    fn get_output(&mut self, program: ProgramId, name: &str) -> Vec<f64> {
        widen(&self.output(program, name).unwrap())
    }
}

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
pub fn devices() -> Vec<Box<dyn TestDevice>> {
    let gpus = gpus(false).into_iter().map(|gpu| Box::new(gpu) as Box<dyn TestDevice>);
    gpus.chain([Box::new(CpuDevice::<f32>::new()) as Box<dyn TestDevice>]).collect()
}

/// The device everything else is held to.
pub fn oracle() -> CpuDevice<f64> {
    CpuDevice::new()
}

/// Whether a device is too slow for the largest shapes: SwiftShader takes ten times lavapipe's time.
pub fn is_slow(device: &dyn TestDevice) -> bool {
    device.info().name.contains("SwiftShader")
}

/// Numbers in [-1, 1), exact in f32; the same for the same `salt`.
pub fn random(len: usize, salt: u32) -> Vec<f64> {
    use distil_gpu_kernels::random::{unit, word};
    (0..len as u32).map(|i| f64::from(unit(word(20, salt, 0, i))) * 2.0 - 1.0).collect()
}

/// Numbers in `low..high`, rounded to f32.
pub fn random_in(low: f64, high: f64, len: usize, salt: u32) -> Vec<f64> {
    let scaled = |v: f64| f64::from((low + (high - low) * (v + 1.0) / 2.0) as f32);
    random(len, salt).into_iter().map(scaled).collect()
}

/// Whole numbers in `0..bound`.
pub fn random_labels(len: usize, bound: usize, salt: u32) -> Vec<i32> {
    random_in(0.0, bound as f64, len, salt)
        .iter()
        .map(|v| (*v as i32).min(bound as i32 - 1))
        .collect()
}

/// f32 to f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// f64 to f32.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Distance of two numbers; a NaN is at no distance from a NaN, and infinitely far from anything else.
fn distance(found: f64, expected: f64) -> f64 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let distance = (found - expected).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// The largest distance of two elements.
///
/// # Panics
/// When the lengths differ.
pub fn max_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |worst, (&f, &e)| f64::max(worst, distance(f, e)))
}

/// Normalised mean square error: Σ (found - expected)² / Σ expected².
///
/// # Panics
/// When the lengths differ.
pub fn nmse(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(&f, &e)| distance(f, e).powi(2)).sum();
    let power: f64 = expected.iter().filter(|e| !e.is_nan()).map(|e| e * e).sum();
    if error == 0.0 { 0.0 } else { error / power }
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
