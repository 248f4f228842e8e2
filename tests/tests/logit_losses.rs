//! Decoupled KL, standardised logits and smoothed labels against PyTorch; see tests/fixtures/README.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_kernels::distill_loss::{DistillLoss, TERMS};
use distil_gpu_kernels::{Divergence, Kernel, StepState};
use distil_gpu_tests::{Data, Fixtures, assert_close, devices, oracle, run_kernel};

#[test]
fn pytorch_comes_to_the_same() {
    let file = Fixtures::open("logit_losses.safetensors");
    for i in 0..8 {
        let name = |part: &str| format!("case{i}.{part}");
        let [rows, classes] = file.shape(&name("student")).unwrap()[..] else { panic!("a matrix") };
        let hyper = file.floats(&name("hyper"));
        let [temperature, alpha, smoothing, standardise, target, others] =
            hyper[..].try_into().map(|hyper: [f64; 6]| hyper.map(|v| v as f32)).unwrap();
        let divergence = match target.is_nan() {
            true => Divergence::ForwardKl,
            false => Divergence::DecoupledKl { target, others },
        };
        let standardise = standardise == 1.0;
        let loss = DistillLoss::new(rows, classes);
        let kernel: Arc<dyn Kernel> =
            Arc::new(DistillLoss { divergence, standardise, smoothing, ..loss });
        let scale = 1.0 / rows as f32;
        let state = StepState {
            temperature,
            alpha,
            soft_scale: scale,
            hard_scale: scale,
            ..StepState::default()
        };
        let data = [
            Data::Floats(file.floats(&name("student"))),
            Data::Floats(file.floats(&name("teacher"))),
            Data::Integers(file.integers(&name("labels"))),
            Data::Unwritten,
            Data::Unwritten,
        ];
        let [soft, loss, gradient] = ["soft", "loss", "grad"].map(|part| file.floats(&name(part)));
        let exact = (&mut oracle() as &mut dyn distil_gpu_engine::device::Device, 1e-18);
        let mut devices = devices();
        let all = devices.iter_mut().map(|device| (&mut **device as _, 1e-9));
        for (device, limit) in [exact].into_iter().chain(all) {
            let written = run_kernel(device, &kernel, &state, &data).unwrap();
            let softs: f64 = written[2].chunks(TERMS).map(|row| row[0]).sum();
            let what = format!("case {i} on {}", device.info().name);
            assert_close(&format!("loss of {what}"), &[written[1].iter().sum()], &loss, limit);
            assert_close(&format!("soft of {what}"), &[softs / rows as f64], &soft, limit);
            assert_close(&format!("gradient of {what}"), &written[0], &gradient, limit);
        }
    }
}
