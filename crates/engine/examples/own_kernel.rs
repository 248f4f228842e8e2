//! A kernel of one's own: its shader, its twin on the processor, and how near a device comes to the twin in f64.
//!
//!     cargo run --release --example own_kernel

use std::sync::Arc;

use distil_gpu_engine::device::{GpuDevice, adapters};
use distil_gpu_engine::kernels::{
    Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState,
};
use distil_gpu_engine::prelude::*;
use distil_gpu_engine::verify::kernel::{Data, run_kernel};
use distil_gpu_engine::verify::numbers::nmse;
use distil_gpu_engine::verify::oracle;

/// y = x / (1 + |x|) of `len` numbers.
#[derive(Debug)]
struct Softsign {
    len: usize,
}

impl Softsign {
    /// The twin, in any precision.
    fn run<F: Real>(&self, mut args: Args<'_, F>) {
        let values: Vec<F> = args.read(0).iter().map(|&x| x / (F::one() + x.abs())).collect();
        args.write(1).copy_from_slice(&values);
    }
}

impl Kernel for Softsign {
    fn name(&self) -> &'static str {
        "softsign"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![Operand::read("x", self.len), Operand::write("y", self.len)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        vec![Launch {
            source: Source::own("softsign", include_str!("softsign.wgsl")),
            entry: "softsign",
            overrides: Vec::new(),
            dims: vec![self.len as u32],
            bindings: vec![Some(0), Some(1)],
            workgroups: caps.grid(self.len.div_ceil(64)),
        }]
    }

    fn cost(&self) -> Cost {
        let [read, written] = [0, 1].map(|index| self.operands()[index].bytes());
        Cost { flops: 3 * self.len as u64, bytes_read: read, bytes_written: written }
    }

    fn run_f32(&self, args: Args<'_, f32>, _: &StepState) {
        self.run(args);
    }

    fn run_f64(&self, args: Args<'_, f64>, _: &StepState) {
        self.run(args);
    }
}

fn main() -> Result<(), Error> {
    const LEN: usize = 1000;
    let x: Vec<f64> = (0..LEN).map(|i| i as f64 / 50.0 - 10.0).collect();
    let data = [Data::Floats(x), Data::Unwritten];
    let kernel: Arc<dyn Kernel> = Arc::new(Softsign { len: LEN });
    let state = StepState::default();
    let expected = run_kernel(&mut oracle(), &kernel, &state, &data)?.concat();
    // Any GPU driver will do here, one that runs on the processor too.
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(CpuDevice::<f32>::new())];
    for adapter in adapters() {
        devices.push(Box::new(GpuDevice::new(&adapter, GpuOptions::default())?));
    }
    for device in &mut devices {
        let found = run_kernel(&mut **device, &kernel, &state, &data)?.concat();
        let error = nmse(&found, &expected);
        println!("{}: NMSE {error:.1e}", device.info().name);
        assert!(error < 1e-13);
    }
    Ok(())
}
