//! What a device reaches at best.

use std::sync::Arc;
use std::time::Duration;

use distil_gpu_kernels::chain::Chain;
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::roof::Roof;
use distil_gpu_kernels::{Access, Kernel, StepState};
use serde::Serialize;

use super::seconds;
use crate::device::{Device, DeviceKind};
use crate::error::Error;
use crate::plan::{BufferKind, BufferSpec, Call, Plan, View};

/// Elements copied on a GPU: 64 MiB read, 64 MiB written, more than its caches hold.
const COPIED: usize = 16 << 20;
/// Elements copied where the processor does the work.
const COPIED_BY_PROCESSOR: usize = 8 << 20;

/// Measured speeds that bound every kernel's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Roofs {
    /// Operations a second of multiply-adds in registers, in 10⁹.
    pub gflops: f64,
    /// Bytes read and written a second by a plain copy, in 10⁹.
    pub gigabytes_per_second: f64,
}

impl Roofs {
    /// Measures a device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn measure(device: &mut dyn Device, budget: Duration) -> Result<Self, Error> {
        let processor = device.info().kind >= DeviceKind::SoftwareGpu;
        let copied = if processor { COPIED_BY_PROCESSOR } else { COPIED };
        let copy = Elementwise {
            extent: [1, 1, 1, copied as u32],
            main_strides: Some([0, 0, 0, 1]),
            chain: Chain::default(),
        };
        // About 0.1 s at a speed of 100 GFLOP/s, or of 10 TFLOP/s.
        let roof = match processor {
            true => Roof { len: 1 << 14, rounds: 1 << 10 },
            false => Roof { len: 1 << 20, rounds: 1 << 12 },
        };
        let copy_cost = copy.cost();
        let bytes = (copy_cost.bytes_read + copy_cost.bytes_written) as f64;
        Ok(Self {
            gflops: roof.cost().flops as f64 / time(device, Arc::new(roof), budget)? / 1e9,
            gigabytes_per_second: bytes / time(device, Arc::new(copy), budget)? / 1e9,
        })
    }

    /// How much of the nearer roof a speed in operations and bytes a second is.
    pub fn share(self, flops: f64, bytes: f64) -> f64 {
        (flops / self.gflops / 1e9).max(bytes / self.gigabytes_per_second / 1e9)
    }
}

/// Median seconds of one run of a kernel.
fn time(device: &mut dyn Device, kernel: Arc<dyn Kernel>, budget: Duration) -> Result<f64, Error> {
    let program = device.load(&plan_of(kernel), &|_| None)?;
    let seconds = seconds(device, budget, |device| device.run(program, &StepState::default(), &[]));
    device.unload(program);
    seconds
}

/// A plan of one call, its operands in buffers of their own: what is read is an input of the operand's name.
pub fn plan_of(kernel: Arc<dyn Kernel>) -> Plan {
    let operands = kernel.operands();
    let mut plan = Plan { buffers: Vec::new(), calls: Vec::new(), loss_scale: None };
    let mut views = Vec::new();
    for (buffer, operand) in operands.iter().enumerate() {
        let name = operand.name.to_owned();
        plan.buffers.push(BufferSpec {
            kind: match operand.access {
                Access::Read => BufferKind::Input(name.clone()),
                _ => BufferKind::Output(name.clone()),
            },
            dtype: operand.dtype,
            len: operand.len,
            row: None,
            label: name,
        });
        views.push(View { buffer, dtype: operand.dtype, offset: 0, len: operand.len });
    }
    plan.calls.push(Call { label: kernel.name().to_owned(), kernel, views });
    plan
}
