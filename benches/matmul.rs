//! Matrix products: throughput is operations a second, so `Gelem/s` reads as GFLOP/s.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distil_gpu_benches::{devices, plan_of};
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::kernels::matmul::Matmul;
use distil_gpu_engine::kernels::{Kernel, StepState};

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
        for (name, m, n, k, trans_a, trans_b) in SHAPES {
            let kernel = Matmul::new(m, n, k, trans_a, trans_b);
            group.throughput(Throughput::Elements(kernel.cost().flops));
            let program = device.load(&plan_of(kernel), &|_| None).expect("the plan fits");
            let values = vec![0.5; m.max(n) * k];
            let inputs = [
                ("a", HostTensor::F32(&values[..m * k])),
                ("b", HostTensor::F32(&values[..k * n])),
            ];
            device.run(program, &StepState::default(), &inputs).expect("the first run");
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
