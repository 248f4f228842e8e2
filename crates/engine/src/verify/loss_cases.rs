//! The distillation losses over the shapes and settings that rows, tiles and extreme logits could break on.

use distil_gpu_kernels::distill_loss::{DistillLoss, IGNORED, PADDING};
use distil_gpu_kernels::pointwise_loss::{PointwiseKind, PointwiseLoss};
use distil_gpu_kernels::{Divergence, StepState};

use super::cases::Case;
use super::kernel::Data;
use super::numbers::{random_in, random_labels};

/// Logits within ±`scale` and labels for the distillation loss: the first row's label is ignored, the last
/// row is padding, and padding is full of NaN.
pub fn loss_data(kernel: &DistillLoss, scale: f64) -> Vec<Data> {
    let &DistillLoss { rows, classes, student_stride, teacher_stride, weighted, .. } = kernel;
    let mut labels = random_labels(rows, classes, 7);
    if rows > 2 {
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
    data.extend(weighted.then(|| Data::Floats(random_in(0.0, 4.0, rows, 3))));
    data
}

/// A step's state for the distillation loss.
pub fn loss_state(temperature: f32, alpha: f32) -> StepState {
    let (soft_scale, hard_scale, blend) = (0.25, 0.5, 0.375);
    StepState { temperature, alpha, soft_scale, hard_scale, blend, ..StepState::default() }
}

/// Rows held in registers and streamed, every setting, huge logits.
pub fn distill_loss() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |kernel: DistillLoss, scale, temperature, alpha| {
        let data = loss_data(&kernel, scale);
        cases.push(Case::new(kernel, data).at(loss_state(temperature, alpha)));
    };
    let plain = DistillLoss::new;
    for (rows, classes) in
        [(5, 2), (130, 10), (6, 33), (4, 1000), (3, 4096), (3, 4097), (3, 50_257)]
    {
        for (setting, (temperature, alpha)) in
            [(1.0, 0.0), (0.5, 0.3), (4.0, 0.9), (20.0, 1.0)].into_iter().enumerate()
        {
            let kernel = DistillLoss {
                student_stride: classes + [0, 3, 0, 47][setting],
                teacher_stride: [Some(classes), Some(classes + 9), None, Some(classes)][setting],
                gradient: setting != 1,
                ..plain(rows, classes)
            };
            case(kernel, 6.0, temperature, alpha);
        }
    }
    // Rows that start at multiples of four and end in between.
    for (classes, student_stride, teacher) in [(2, 4, 8), (33, 36, 40), (4097, 4100, 4104)] {
        for teacher_stride in [None, Some(teacher)] {
            for gradient in [false, true] {
                let padded =
                    DistillLoss { student_stride, teacher_stride, gradient, ..plain(9, classes) };
                case(padded, 6.0, 2.0, 0.7);
            }
        }
    }
    for (classes, teacher_stride) in [(10, None), (10, Some(10)), (5000, Some(5000))] {
        case(DistillLoss { teacher_stride, weighted: true, ..plain(70, classes) }, 6.0, 2.0, 0.4);
    }
    // Close answers and high temperatures, where differences of softmaxes are small.
    for (scale, temperature) in [(6.0, 1e3), (6.0, 1e4), (1e-2, 4.0), (1e-2, 1e3), (6.0, 0.01)] {
        for classes in [10, 5000] {
            case(plain(9, classes), scale, temperature, 0.5);
        }
    }
    // Close answers: of one row far apart, the gradient is no more than its rounding.
    case(plain(1, 2), 1.0, 2.0, 0.5);
    // A large vocabulary, and more rows than one dimension of a grid holds.
    for (rows, classes) in [(3, 262_144), (70_000, 2)] {
        case(plain(rows, classes), 6.0, 2.0, 0.7);
    }
    for classes in [10, 5000] {
        for temperature in [0.5, 1.0, 20.0] {
            case(plain(9, classes), 1e4, temperature, 0.5);
        }
    }
    cases.extend(divergences());
    cases.extend(standardised());
    cases
}

/// Logits that are standardised, and smoothed labels: of every divergence, of rows held in registers and streamed.
fn standardised() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |kernel: DistillLoss, scale, temperature, alpha| {
        let data = loss_data(&kernel, scale);
        cases.push(Case::new(kernel, data).at(loss_state(temperature, alpha)));
    };
    for divergence in Divergence::each() {
        let plain = |rows, classes| DistillLoss {
            divergence,
            standardise: true,
            smoothing: 0.1,
            ..DistillLoss::new(rows, classes)
        };
        case(plain(130, 10), 6.0, 2.0, 0.7);
        case(DistillLoss { student_stride: 36, ..plain(9, 33) }, 1e-2, 4.0, 0.9);
        case(DistillLoss { gradient: false, weighted: true, ..plain(4, 1000) }, 6.0, 1.0, 0.5);
        case(plain(3, 5001), 1e4, 0.5, 0.5);
    }
    for (rows, classes) in [(5, 2), (70, 10), (3, 50_257)] {
        for smoothing in [0.1, 1.0] {
            let loss = DistillLoss { smoothing, ..DistillLoss::new(rows, classes) };
            case(DistillLoss { student_stride: classes + 3, ..loss.clone() }, 6.0, 2.0, 0.4);
            case(DistillLoss { teacher_stride: None, weighted: true, ..loss }, 6.0, 1.0, 0.0);
        }
    }
    cases
}

/// Divergences other than forward KL: rows held in registers and streamed, close answers, extreme temperatures.
fn divergences() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |kernel: DistillLoss, scale, temperature, alpha| {
        let data = loss_data(&kernel, scale);
        cases.push(Case::new(kernel, data).at(loss_state(temperature, alpha)));
    };
    let uneven = Divergence::Jsd { beta: 0.9 };
    for divergence in Divergence::each().skip(1).chain([uneven]) {
        let padded = |rows, classes| DistillLoss {
            student_stride: classes + 3,
            weighted: true,
            divergence,
            ..DistillLoss::new(rows, classes)
        };
        let plain = |rows, classes| DistillLoss { divergence, ..DistillLoss::new(rows, classes) };
        case(plain(5, 2), 6.0, 2.0, 0.7);
        case(DistillLoss { gradient: false, ..padded(130, 10) }, 6.0, 0.5, 0.3);
        case(padded(4, 1000), 6.0, 30.0, 1.0);
        case(plain(3, 50_257), 6.0, 2.0, 0.7);
        // Close answers, a high temperature, a low one, rows that start at multiples of four and end in between.
        for (scale, temperature) in [(1e-2, 4.0), (6.0, 1e4), (6.0, 0.01), (1e4, 1.0)] {
            let padded = DistillLoss { student_stride: 36, ..DistillLoss::new(9, 33) };
            let padded = DistillLoss { teacher_stride: Some(40), divergence, ..padded };
            case(padded, scale, temperature, 0.5);
        }
    }
    cases
}

/// Outputs within ±`scale` and labels, of which every seventh is missing; the second row has none, the third's does not count
/// in the hard term, and the last is padding, full of NaN.
pub fn pointwise_data(kernel: &PointwiseLoss, scale: f64) -> Vec<Data> {
    let &PointwiseLoss { rows, outputs, kind, teacher, .. } = kernel;
    let len = rows * outputs;
    let mut kinds = vec![0; rows];
    let mut targets = match kind {
        PointwiseKind::Square => random_in(-scale, scale, len, 3),
        PointwiseKind::Logistic(_) => random_in(0.0, 1.0, len, 3),
    };
    targets.iter_mut().step_by(3).for_each(|y| *y = y.round());
    targets.iter_mut().skip(5).step_by(7).for_each(|y| *y = f64::NAN);
    let mut outputs_of = |salt| random_in(-scale, scale, len, salt);
    let [mut z_s, mut z_t] = [1, 2].map(&mut outputs_of);
    if rows > 3 {
        (kinds[2], kinds[rows - 1]) = (IGNORED, PADDING);
        targets[outputs..2 * outputs].fill(f64::NAN);
        for values in [&mut z_s, &mut z_t] {
            values[(rows - 1) * outputs..].fill(f64::NAN);
        }
    }
    let mut data = vec![Data::Floats(z_s)];
    data.extend(teacher.then_some(Data::Floats(z_t)));
    data.extend([Data::Floats(targets), Data::Integers(kinds), Data::Unwritten, Data::Unwritten]);
    data
}

/// Every kind and size; close answers, extreme temperatures, huge outputs.
pub fn pointwise_loss() -> Vec<Case> {
    let mut cases = Vec::new();
    let logistic = Divergence::OF_OUTCOMES.into_iter().chain([Divergence::Jsd { beta: 0.9 }]);
    for kind in logistic.map(PointwiseKind::Logistic).chain([PointwiseKind::Square]) {
        let plain =
            |rows, outputs| PointwiseLoss { rows, outputs, kind, teacher: true, gradient: true };
        let mut case = |kernel: PointwiseLoss, scale, temperature, alpha| {
            let data = pointwise_data(&kernel, scale);
            cases.push(Case::new(kernel, data).at(loss_state(temperature, alpha)));
        };
        case(PointwiseLoss { gradient: false, ..plain(70, 7) }, 6.0, 0.5, 0.3);
        for (rows, outputs) in [(1, 1), (130, 20), (9, 1000), (4, 10_000)] {
            case(plain(rows, outputs), 6.0, 2.0, 0.7);
        }
        // Without a teacher there is no divergence.
        if matches!(kind, PointwiseKind::Square | PointwiseKind::Logistic(Divergence::ForwardKl)) {
            for (rows, outputs) in [(5, 2), (70, 7)] {
                case(PointwiseLoss { teacher: false, ..plain(rows, outputs) }, 6.0, 1.0, 0.0);
            }
        }
        for (scale, temperature) in [(1e-2, 1.0), (6.0, 1e4), (6.0, 0.01), (1e4, 1.0), (1e4, 300.0)]
        {
            case(plain(9, 33), scale, temperature, 0.9);
        }
        // More rows than one dimension of a grid holds.
        case(plain(70_000, 1), 6.0, 2.0, 0.5);
    }
    cases
}
