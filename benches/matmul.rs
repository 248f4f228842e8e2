//! Matrix products: throughput is operations a second, so `Gelem/s` reads as GFLOP/s.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distil_gpu_benches::{devices, plan_of};
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::kernels::matmul::Matmul;
use distil_gpu_engine::kernels::{Blocks, DType, Kernel, StepState};

/// What B is stored in, for products of 1024 x 1024 x 1024 with its rows along k.
const STORED: [DType; 5] = [
    DType::F16,
    DType::Blocks(Blocks::BF16),
    DType::Blocks(Blocks::Q8_0),
    DType::Blocks(Blocks::Q4_K),
    DType::Blocks(Blocks::Q6_K),
];

/// Name, m, n, k, A stored transposed, B stored transposed.
const SHAPES: [(&str, usize, usize, usize, bool, bool); 6] = [
    ("nn 1024x1024x1024", 1024, 1024, 1024, false, false),
    ("nt 1024x1024x1024", 1024, 1024, 1024, false, true),
    ("tn 1024x1024x1024", 1024, 1024, 1024, true, false),
    ("teacher layer, nt 128x1200x1200", 128, 1200, 1200, false, true),
    ("student input gradient, nn 128x800x800", 128, 800, 800, false, false),
    ("student weight gradient, tn 800x784x128", 800, 784, 128, true, false),
];

fn matmul(c: &mut Criterion) {
    for mut device in devices() {
        let mut group = c.benchmark_group(format!("matmul on {}", device.info().name));
        group.sample_size(10);
        let whole = SHAPES.map(|(name, m, n, k, trans_a, trans_b)| {
            (name.to_owned(), Matmul::new(m, n, k, trans_a, trans_b))
        });
        let stored = STORED.map(|b_type| {
            let kernel = Matmul { b_type, ..Matmul::new(1024, 1024, 1024, false, true) };
            (format!("nt 1024x1024x1024, B in {}", b_type.name()), kernel)
        });
        for (name, kernel) in whole.into_iter().chain(stored) {
            let Matmul { m, n, k, b_type, .. } = kernel;
            group.throughput(Throughput::Elements(kernel.cost().flops));
            let program = device.load(&plan_of(kernel), &|_| None).expect("the plan fits");
            let values = vec![0.5; m.max(n) * k];
            let inputs = [
                ("a", HostTensor::F32(&values[..m * k])),
                ("b", HostTensor::F32(&values[..k * n])),
            ];
            // What is stored in less than f32 stays as it is made: zeros.
            let given = if b_type == DType::F32 { &inputs[..] } else { &inputs[..1] };
            device.run(program, &StepState::default(), given).expect("the first run");
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    device.run(program, &StepState::default(), &[]).expect("a run");
                    device.wait().expect("the device answers");
                });
            });
            device.unload(program);
        }
        group.finish();
    }
}

criterion_group!(benches, matmul);
criterion_main!(benches);
