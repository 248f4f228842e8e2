//! The distillation loss with its gradient, teacher and student. `tools/bench_kd_loss_pytorch.py` times the
//! same in PyTorch. Throughput is logits a second, of one of the two tensors. Each logit takes six exponentials with the
//! gradient; beside them stand what bounds that: exponentials of numbers in the cache, and a copy.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distil_gpu_benches::{devices, plan_of};
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::kernels::StepState;
use distil_gpu_engine::kernels::chain::{Chain, Stage};
use distil_gpu_engine::kernels::distill_loss::DistillLoss;
use distil_gpu_engine::kernels::elementwise::Elementwise;

/// Rows, classes.
const SHAPES: [(usize, usize); 4] = [(128, 10), (512, 32_768), (16, 262_144), (2, 262_144)];

fn distill_loss(c: &mut Criterion) {
    for mut device in devices() {
        let mut group = c.benchmark_group(format!("distill_loss on {}", device.info().name));
        group.sample_size(10);
        for (rows, classes) in SHAPES {
            let kernel = DistillLoss::new(rows, classes);
            let program = device.load(&plan_of(kernel), &|_| None).expect("the plan fits");
            let state = StepState {
                temperature: 2.0,
                alpha: 0.9,
                soft_scale: 1.0 / rows as f32,
                hard_scale: 1.0 / rows as f32,
                ..StepState::default()
            };
            let spread = |i: usize| (i.wrapping_mul(2_654_435_761) % 8191) as f32 / 1024.0 - 4.0;
            let teacher: Vec<f32> = (0..rows * classes).map(spread).collect();
            let labels: Vec<i32> = (0..rows).map(|row| (row * 37 % classes) as i32).collect();
            let inputs = [("z_t", HostTensor::F32(&teacher)), ("labels", HostTensor::I32(&labels))];
            device.run(program, &state, &inputs).expect("the first run");
            group.throughput(Throughput::Elements((rows * classes) as u64));
            // The student's logits are what the run before left: its gradient, or zeros at first.
            group.bench_function(format!("{rows} x {classes}"), |bencher| {
                bencher.iter(|| {
                    device.run(program, &state, &[]).expect("a run");
                    device.wait().expect("the device answers");
                });
            });
            device.unload(program);
        }
        group.finish();
    }
}

fn bounds(c: &mut Criterion) {
    for mut device in devices() {
        let mut group = c.benchmark_group(format!("bounds on {}", device.info().name));
        group.sample_size(10);
        for (what, len, stages) in
            [("exp", 1 << 18, vec![Stage::Exp]), ("copy", SHAPES[1].0 * SHAPES[1].1, Vec::new())]
        {
            let kernel = Elementwise {
                extent: [1, 1, 1, len as u32],
                main_strides: Some([0, 0, 0, 1]),
                chain: Chain { stages, operands: Vec::new() },
            };
            let program = device.load(&plan_of(kernel), &|_| None).expect("the plan fits");
            let state = StepState::default();
            device.run(program, &state, &[]).expect("the first run");
            group.throughput(Throughput::Elements(len as u64));
            group.bench_function(format!("{what} of {len}"), |bencher| {
                bencher.iter(|| {
                    device.run(program, &state, &[]).expect("a run");
                    device.wait().expect("the device answers");
                });
            });
            device.unload(program);
        }
        group.finish();
    }
}

criterion_group!(benches, distill_loss, bounds);
criterion_main!(benches);
