//! Kernels on every device.

use std::sync::Arc;

use distil_gpu_engine::device::Device;
use distil_gpu_engine::verify::kernel::{Data, run_kernel, variants};
use distil_gpu_engine::verify::{Case, Variants};
use distil_gpu_kernels::{Kernel, StepState};

use crate::{devices, gpus, is_slow};

/// Elements of a case that a slow device is spared.
const MANY: usize = 400_000;

/// Holds every variant of each case's kernel to the oracle, on every device.
///
/// # Panics
/// When one is off, or a device refuses.
pub fn hold(cases: &[Case]) {
    for device in &mut devices() {
        let device: &mut dyn Device = &mut **device;
        let name = device.info().name.clone();
        let caps = device.caps();
        for case in cases.iter().filter(|case| case.fits(&caps)) {
            if is_slow(device) && case.elements() > MANY {
                continue;
            }
            for distance in case.distances(device, Variants::All).unwrap() {
                let (what, error, limit) = (distance.what, distance.error, distance.limit);
                println!("{error:9.1e}  {what} on {name}");
                assert!(error <= limit, "{what} on {name}: NMSE {error:e} is above {limit:e}");
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
        for (kernel, data) in samples {
            // A folded grid is the same shader; slow drivers compile only what they would run.
            let wanted = |(name, _): &(String, _)| match is_slow(&trusted) {
                true => name.starts_with("own"),
                false => !name.starts_with("folded"),
            };
            let variants: Vec<_> = variants(kernel, &trusted).into_iter().filter(wanted).collect();
            for (variant, kernel) in variants {
                let bits = [&mut trusted, &mut checked].map(|gpu| {
                    let written = run_kernel(gpu, &kernel, state, data).unwrap().concat();
                    written.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
                });
                assert!(bits[0] == bits[1], "{variant}: {kernel:?} on {}", trusted.info().name);
            }
        }
    }
}
