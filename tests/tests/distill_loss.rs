//! The distillation losses' kernels against the f64 oracle, on every driver and on the CPU path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_engine::verify::cases::{self, loss_data, loss_state, pointwise_data};
use distil_gpu_kernels::distill_loss::{DistillLoss, TERMS};
use distil_gpu_kernels::pointwise_loss::{PointwiseKind, PointwiseLoss};
use distil_gpu_kernels::{Divergence, Kernel};
use distil_gpu_tests::{Data, assert_checked_alike, devices, hold, random, run_kernel, variants};

#[test]
fn distill_loss_has_every_size_and_setting() {
    hold(&cases::distill_loss());
}

#[test]
fn pointwise_loss_has_every_kind_and_size() {
    hold(&cases::pointwise_loss());
}

#[test]
fn distill_loss_finds_the_first_maximum() {
    // Terms 2 and 3 are exact: is the student right, does it agree with its teacher.
    let (rows, classes) = (4, 300);
    let kernel = DistillLoss { gradient: false, ..DistillLoss::new(rows, classes) };
    let mut student = vec![-1.0; rows * classes];
    let mut teacher = student.clone();
    for (row, places) in [[5, 280], [40, 41], [0, 299], [7, 263]].into_iter().enumerate() {
        places.iter().for_each(|place| student[row * classes + place] = 3.0);
        teacher[row * classes + places[row % 2]] = 2.0;
    }
    let kernel: Arc<dyn Kernel> = Arc::new(kernel);
    let data = [
        Data::Floats(student),
        Data::Floats(teacher),
        Data::Integers(vec![5, 41, 0, 263]),
        Data::Unwritten,
        Data::Unwritten,
    ];
    for device in &mut devices() {
        for (_, kernel) in variants(&kernel, &**device) {
            let terms =
                run_kernel(&mut **device, &kernel, &loss_state(2.0, 0.5), &data).unwrap().remove(2);
            let flags: Vec<&[f64]> = terms.chunks(TERMS).map(|row| &row[2..4]).collect();
            assert_eq!(flags, [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]);
        }
    }
}

#[test]
fn nan_in_a_row_that_counts_is_reported() {
    let ways = Divergence::each().map(|divergence| (divergence, false));
    let ways = ways.chain([(Divergence::ForwardKl, true)]);
    for (divergence, standardise, spoilt) in ways.flat_map(|(d, s)| [(d, s, 0), (d, s, 1)]) {
        let kernel: Arc<dyn Kernel> =
            Arc::new(DistillLoss { divergence, standardise, ..DistillLoss::new(2, 30) });
        let mut data = vec![Data::Floats(random(60, 3)), Data::Floats(random(60, 4))];
        if let Data::Floats(logits) = &mut data[spoilt] {
            logits[20] = f64::NAN;
        }
        data.extend([Data::Integers(vec![4, 4]), Data::Unwritten, Data::Unwritten]);
        for device in &mut devices() {
            for (variant, kernel) in variants(&kernel, &**device) {
                let losses = run_kernel(&mut **device, &kernel, &loss_state(2.0, 0.5), &data)
                    .unwrap()
                    .remove(1);
                let lost = losses.iter().map(|loss| loss.is_nan()).collect::<Vec<_>>();
                let what = format!("{divergence:?}, {spoilt}, {variant} on {}", device.info().name);
                assert_eq!(lost, [true, false], "{what}");
            }
        }
    }
}

#[test]
fn nan_in_outputs_is_reported() {
    let logistic = Divergence::OF_OUTCOMES.map(PointwiseKind::Logistic);
    let kinds = [PointwiseKind::Square].into_iter().chain(logistic);
    for (kind, spoilt) in kinds.flat_map(|kind| [(kind, 0), (kind, 1)]) {
        let kernel: Arc<dyn Kernel> =
            Arc::new(PointwiseLoss { rows: 2, outputs: 30, kind, teacher: true, gradient: true });
        let mut data = vec![Data::Floats(random(60, 3)), Data::Floats(random(60, 4))];
        if let Data::Floats(outputs) = &mut data[spoilt] {
            outputs[20] = f64::NAN;
        }
        data.extend([Data::Floats(vec![1.0; 60]), Data::Integers(vec![0; 2])]);
        data.extend([Data::Unwritten, Data::Unwritten]);
        for device in &mut devices() {
            for (variant, kernel) in variants(&kernel, &**device) {
                let losses = run_kernel(&mut **device, &kernel, &loss_state(2.0, 0.5), &data)
                    .unwrap()
                    .remove(1);
                let lost = losses.iter().map(|loss| loss.is_nan()).collect::<Vec<_>>();
                let what = format!("{kind:?}, {spoilt}, {variant} on {}", device.info().name);
                assert_eq!(lost, [true, false], "{what}");
            }
        }
    }
}

#[test]
fn checked_shaders_give_the_same_bits() {
    let held = DistillLoss { student_stride: 304, ..DistillLoss::new(5, 300) };
    let streamed = DistillLoss { teacher_stride: Some(5001), ..DistillLoss::new(5, 5000) };
    let ways = [false, true].into_iter().cycle();
    let samples = Divergence::each().zip(ways).flat_map(|(divergence, standardise)| {
        [&held, &streamed].map(|kernel| {
            let kernel = DistillLoss { divergence, standardise, ..kernel.clone() };
            let data = loss_data(&kernel, 5.0);
            (Arc::new(kernel) as Arc<dyn Kernel>, data)
        })
    });
    let mut samples: Vec<_> = samples.collect();
    let kinds = Divergence::OF_OUTCOMES.map(PointwiseKind::Logistic);
    for kind in [PointwiseKind::Square].into_iter().chain(kinds) {
        for (rows, outputs) in [(30, 7), (9, 300)] {
            let kernel = PointwiseLoss { rows, outputs, kind, teacher: true, gradient: true };
            samples.push((Arc::new(kernel), pointwise_data(&kernel, 5.0)));
        }
    }
    assert_checked_alike(&samples, &loss_state(3.0, 0.4));
}
