//! Kernels on every device.

use std::sync::Arc;

use distil_gpu_engine::device::Device;
use distil_gpu_engine::verify::Case;
use distil_gpu_engine::verify::kernel::{Data, run_kernel, variants};
use distil_gpu_kernels::{Kernel, StepState};

use crate::{devices, gpus, is_slow};

/// Elements of a case that a slow device is spared.
const MANY: usize = 400_000;

/// Of the cases of attention, one in so many is tried on lavapipe in another variant than the one it runs: its shaders for
/// GPUs take that driver tens of seconds to compile.
const ATTENTION_TURNS: usize = 5;

/// The variants of a kernel that are tried on a device: all, but that lavapipe, which takes a second or more to compile
/// each, is given the one it runs and by turns another.
pub fn tried(
    kernel: &Arc<dyn Kernel>,
    device: &dyn Device,
    turn: usize,
) -> Vec<(String, Arc<dyn Kernel>)> {
    let mut variants = variants(kernel, device);
    if device.info().name.contains("llvmpipe") && variants.len() > 2 {
        let every = if kernel.name() == "attention" { ATTENTION_TURNS } else { 1 };
        let (is_due, turn) = (turn.is_multiple_of(every), turn / every);
        let other = variants.remove(1 + turn % (variants.len() - 1));
        variants.truncate(1);
        variants.extend(is_due.then_some(other));
    }
    variants
}

/// Holds variants of each case's kernel to the oracle, on every device.
///
/// # Panics
/// When one is off, or a device refuses.
pub fn hold(cases: &[Case]) {
    for device in &mut devices() {
        let device: &mut dyn Device = &mut **device;
        let name = device.info().name.clone();
        let caps = device.caps();
        for (turn, case) in cases.iter().filter(|case| case.fits(&caps)).enumerate() {
            if is_slow(device) && case.elements() > MANY {
                continue;
            }
            let expected = case.expected().unwrap();
            for (variant, kernel) in tried(&case.kernel, device, turn) {
                let found = case.found(device, &kernel).unwrap();
                for distance in case.distances_of(&variant, &found, &expected) {
                    let (what, error, limit) = (distance.what, distance.error, distance.limit);
                    println!("{error:9.1e}  {what} on {name}");
                    assert!(error <= limit, "{what} on {name}: NMSE {error:e} is above {limit:e}");
                }
            }
        }
    }
}

/// Holds the shaders without checks, as in use, to the bits of those with checks, in every variant of each kernel.
///
/// # Panics
/// When a bit differs.
pub fn assert_checked_alike(samples: &[(Arc<dyn Kernel>, Vec<Data>)], state: &StepState) {
    for (mut trusted, mut checked) in gpus(false).into_iter().zip(gpus(true)) {
        for (turn, (kernel, data)) in samples.iter().enumerate() {
            for (variant, kernel) in tried(kernel, &trusted, turn) {
                let bits = [&mut trusted, &mut checked].map(|gpu| {
                    let written = run_kernel(gpu, &kernel, state, data).unwrap().concat();
                    written.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
                });
                assert!(bits[0] == bits[1], "{variant}: {kernel:?} on {}", trusted.info().name);
            }
        }
    }
}
