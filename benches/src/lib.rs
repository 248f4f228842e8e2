//! What the benchmarks share: the devices to run on, and plans of one kernel.

use std::sync::Arc;

use distil_gpu_engine::device::{Choice, Device, GpuOptions, select};
use distil_gpu_engine::kernels::Kernel;
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::{Error, bench};

/// The devices named in `DISTIL_GPU_BENCH_DEVICES` (`cpu,gpu:0`, …); else the CPU device and what `auto`
/// takes.
///
/// # Panics
/// When a named device does not exist.
pub fn devices() -> Vec<Box<dyn Device>> {
    let named = std::env::var("DISTIL_GPU_BENCH_DEVICES").unwrap_or_else(|_| "cpu,auto".to_owned());
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    for name in named.split(',') {
        let open = || -> Result<_, Error> {
            let choice: Choice = name.parse()?;
            Ok(select(choice, GpuOptions::default())?.device)
        };
        let device = open().unwrap_or_else(|error| panic!("{name}: {error}"));
        if !devices.iter().any(|known| known.info() == device.info()) {
            devices.push(device);
        }
    }
    devices
}

/// A plan of one call, its operands in buffers of their own: what is read is an input of the operand's name.
pub fn plan_of(kernel: impl Kernel + 'static) -> Plan {
    bench::plan_of(Arc::new(kernel))
}
