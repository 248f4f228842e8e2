//! The distillation loss's kernel against the f64 oracle, on every driver and on the CPU path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_engine::verify::cases::{self, loss_data, loss_state};
use distil_gpu_kernels::Kernel;
use distil_gpu_kernels::distill_loss::{DistillLoss, TERMS};
use distil_gpu_tests::{Data, assert_checked_alike, devices, hold, random, run_kernel, variants};

#[test]
fn distill_loss_has_every_size_and_setting() {
    hold(&cases::distill_loss());
}

#[test]
fn distill_loss_finds_the_first_maximum() {
    // Terms 2 and 3 are exact: is the student right, does it agree with its teacher.
    let (rows, classes) = (4, 300);
    let kernel = DistillLoss {
        weighted: false,
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
    let kernel = DistillLoss {
        weighted: false,
        rows: 2,
        classes: 30,
        student_stride: 30,
        teacher_stride: Some(30),
        gradient: true,
    };
    let kernel: Arc<dyn Kernel> = Arc::new(kernel);
    for spoilt in [0, 1] {
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
                assert_eq!(lost, [true, false], "{spoilt}, {variant} on {}", device.info().name);
            }
        }
    }
}

#[test]
fn checked_shaders_give_the_same_bits() {
    let held = DistillLoss {
        weighted: false,
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
        let data = loss_data(&kernel, 5.0);
        (Arc::new(kernel) as _, data)
    });
    assert_checked_alike(&samples, &loss_state(3.0, 0.4));
}
