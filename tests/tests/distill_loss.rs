//! The distillation loss's kernel against the f64 oracle, on every driver and on the CPU path. Limits are
//! NMSEs, as in `kernels.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::{DistillLoss, IGNORED, PADDING, TERMS};
use distil_gpu_tests::{
    Data, assert_checked_alike, check, devices, is_slow, random, random_in, random_labels,
    run_kernel, variants,
};

/// The soft term is T² (400 for T = 20) times a small difference of logarithms.
const LOSS: f64 = 2e-9;
/// q - p cancels where the student is close to the teacher.
const LOSS_GRADIENT: f64 = 1e-10;

/// Logits and labels for the distillation loss, padded columns and padding rows full of NaN.
fn loss_data(kernel: &DistillLoss, scale: f64, special: bool) -> Vec<Data> {
    let &DistillLoss { rows, classes, student_stride, teacher_stride, .. } = kernel;
    let mut labels = random_labels(rows, classes, 7);
    if special && rows > 2 {
        (labels[0], labels[rows - 1]) = (IGNORED, PADDING);
    }
    let logits = |stride: usize, salt| {
        let mut values = random_in(-scale, scale, rows * stride, salt);
        for (row, label) in values.chunks_mut(stride).zip(&labels) {
            row[classes..].fill(f64::NAN);
            if *label == PADDING {
                row.fill(f64::NAN);
            }
        }
        Data::Floats(values)
    };
    let mut data = vec![logits(student_stride, 1)];
    data.extend(teacher_stride.map(|stride| logits(stride, 2)));
    data.extend([Data::Integers(labels), Data::Unwritten, Data::Unwritten]);
    data
}

fn loss_state(temperature: f32, alpha: f32) -> StepState {
    StepState { temperature, alpha, soft_scale: 0.25, hard_scale: 0.5, ..StepState::default() }
}

#[test]
fn distill_loss_has_every_size_and_setting() {
    let mut devices = devices();
    for (rows, classes) in
        [(5, 2), (130, 10), (6, 33), (4, 1000), (3, 4096), (3, 4097), (3, 50_257)]
    {
        for (case, (temperature, alpha)) in
            [(1.0, 0.0), (0.5, 0.3), (4.0, 0.9), (20.0, 1.0)].into_iter().enumerate()
        {
            let kernel = DistillLoss {
                rows,
                classes,
                student_stride: classes + [0, 3, 0, 47][case],
                teacher_stride: [Some(classes), Some(classes + 9), None, Some(classes)][case],
                gradient: case != 1,
            };
            let data = loss_data(&kernel, 6.0, true);
            check(
                &mut devices,
                &kernel,
                &loss_state(temperature, alpha),
                &data,
                &[LOSS_GRADIENT, LOSS, LOSS],
            );
        }
    }
}

#[test]
fn distill_loss_of_a_large_vocabulary_and_of_many_rows() {
    for (rows, classes) in [(2, 262_144), (70_000, 2)] {
        let kernel = DistillLoss {
            rows,
            classes,
            student_stride: classes,
            teacher_stride: Some(classes),
            gradient: true,
        };
        let data = loss_data(&kernel, 6.0, true);
        // 70,000 workgroups take SwiftShader longer than all other tests together.
        let mut devices = devices();
        devices.retain(|device| rows < 1000 || !is_slow(&**device));
        check(&mut devices, &kernel, &loss_state(2.0, 0.7), &data, &[LOSS_GRADIENT, LOSS, LOSS]);
    }
}

#[test]
fn distill_loss_survives_huge_logits() {
    let mut devices = devices();
    for classes in [10, 5000] {
        for temperature in [0.5, 1.0, 20.0] {
            let kernel = DistillLoss {
                rows: 9,
                classes,
                student_stride: classes,
                teacher_stride: Some(classes),
                gradient: true,
            };
            let data = loss_data(&kernel, 1e4, true);
            check(
                &mut devices,
                &kernel,
                &loss_state(temperature, 0.5),
                &data,
                &[LOSS_GRADIENT, LOSS, LOSS],
            );
        }
    }
}

#[test]
fn distill_loss_finds_the_first_maximum() {
    // Terms 2 and 3 are exact: is the student right, does it agree with its teacher.
    let (rows, classes) = (4, 300);
    let kernel = DistillLoss {
        rows,
        classes,
        student_stride: classes,
        teacher_stride: Some(classes),
        gradient: false,
    };
    let mut student = vec![-1.0; rows * classes];
    let mut teacher = student.clone();
    for (row, places) in [[5, 280], [40, 41], [0, 299], [7, 263]].into_iter().enumerate() {
        places.iter().for_each(|place| student[row * classes + place] = 3.0);
        teacher[row * classes + places[row % 2]] = 2.0;
    }
    let data = [
        Data::Floats(student),
        Data::Floats(teacher),
        Data::Integers(vec![5, 41, 0, 263]),
        Data::Unwritten,
        Data::Unwritten,
    ];
    for device in &mut devices() {
        for (_, kernel) in variants(kernel.clone(), &**device) {
            let terms = run_kernel(&mut **device, &kernel, &loss_state(2.0, 0.5), &data).remove(2);
            let flags: Vec<&[f64]> = terms.chunks(TERMS).map(|row| &row[2..4]).collect();
            assert_eq!(flags, [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]);
        }
    }
}

#[test]
fn nan_in_a_row_that_counts_is_reported() {
    let kernel = DistillLoss {
        rows: 2,
        classes: 30,
        student_stride: 30,
        teacher_stride: Some(30),
        gradient: true,
    };
    for spoilt in [0, 1] {
        let mut data = vec![Data::Floats(random(60, 3)), Data::Floats(random(60, 4))];
        if let Data::Floats(logits) = &mut data[spoilt] {
            logits[20] = f64::NAN;
        }
        data.extend([Data::Integers(vec![4, 4]), Data::Unwritten, Data::Unwritten]);
        for device in &mut devices() {
            for (variant, kernel) in variants(kernel.clone(), &**device) {
                let losses =
                    run_kernel(&mut **device, &kernel, &loss_state(2.0, 0.5), &data).remove(1);
                let lost = losses.iter().map(|loss| loss.is_nan()).collect::<Vec<_>>();
                assert_eq!(lost, [true, false], "{spoilt}, {variant} on {}", device.info().name);
            }
        }
    }
}

#[test]
fn checked_shaders_give_the_same_bits() {
    let held = DistillLoss {
        rows: 5,
        classes: 300,
        student_stride: 304,
        teacher_stride: Some(300),
        gradient: true,
    };
    let streamed = DistillLoss {
        classes: 5000,
        student_stride: 5000,
        teacher_stride: Some(5001),
        ..held.clone()
    };
    let samples = [held, streamed].map(|kernel| {
        let data = loss_data(&kernel, 5.0, true);
        (Arc::new(kernel) as _, data)
    });
    assert_checked_alike(&samples, &loss_state(3.0, 0.4));
}
