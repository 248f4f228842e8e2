//! The losses of features over the shapes that rows, tiles and padding could break on.

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::feature_loss::{FeatureLoss, Measure};
use distil_gpu_kernels::relation_loss::RelationLoss;

use super::cases::Case;
use super::kernel::{Data, filled};

/// What counts, counted over some batch.
fn state() -> StepState {
    StepState { token_scale: 0.125, soft_scale: 0.25, ..StepState::default() }
}

/// Writes NaN where an operand holds padding: behind the lengths, in rows of `cols`.
fn spoil_padding(data: &mut Data, positions: usize, cols: usize, lengths: &[i32]) {
    let Data::Floats(values) = data else { return };
    for (example, &length) in values.chunks_mut(positions * cols).zip(lengths) {
        example[length.clamp(0, positions as i32) as usize * cols..].fill(f64::NAN);
    }
}

/// Both measures; short rows and long ones, far rows and near ones, examples of every length.
pub fn feature_loss() -> Vec<Case> {
    let mut cases = Vec::new();
    for (examples, positions, cols, near) in [
        (1, 1, 1, false),
        (1, 1, 2, false),
        (7, 1, 3, false),
        (3, 5, 31, false),
        (4, 33, 384, false),
        (4, 33, 384, true),
        (2, 3, 5000, false),
        (5000, 2, 20, true),
        // More rows than one dimension of a grid holds.
        (70_000, 1, 2, false),
    ] {
        let lengths = [positions as i32, 0, i32::MAX, -1, (positions / 2) as i32];
        let lengths: Vec<i32> = lengths.into_iter().cycle().take(examples).collect();
        // A single number has one of two directions, and no way between them.
        let measures: &[Measure] =
            if cols > 1 { &[Measure::Cosine, Measure::Square] } else { &[Measure::Square] };
        for &measure in measures {
            for gradient in [false, true] {
                let kernel = FeatureLoss {
                    rows: examples * positions,
                    cols,
                    measure,
                    positions,
                    tokens: positions > 1,
                    weight: 0.7,
                    gradient,
                };
                let mut data = filled(&kernel, -1.0, 2.0);
                if let (true, [Data::Floats(student), Data::Floats(teacher), ..]) =
                    (near, &mut data[..])
                {
                    for (s, t) in student.iter_mut().zip(teacher) {
                        *s = f64::from((*t + 0.05 * *s) as f32);
                    }
                }
                spoil_padding(&mut data[0], positions, cols, &lengths);
                data[2] = Data::Integers(lengths.clone());
                cases.push(Case::new(kernel, data).at(state()));
            }
        }
    }
    cases
}

/// Heads of the same size and of others, lengths around tiles and blocks, empty and whole examples.
pub fn relation_loss() -> Vec<Case> {
    let mut cases = Vec::new();
    for ([batch, length, heads, head_dim, teacher_dim], lengths) in [
        ([1, 1, 1, 1, 1], &[1][..]),
        ([4, 7, 3, 5, 5], &[7, 0, 3, -2]),
        ([3, 33, 2, 32, 64], &[33, 17, 1]),
        ([2, 64, 3, 64, 32], &[64, i32::MAX]),
        ([2, 70, 1, 33, 128], &[65, 16]),
        ([1, 100, 1, 128, 17], &[97]),
        ([300, 2, 2, 1, 2], &[2, 1, 0]),
    ] {
        for gradient in [false, true] {
            let weight = 0.7;
            let kernel =
                RelationLoss { batch, length, heads, head_dim, teacher_dim, weight, gradient };
            let lengths: Vec<i32> = lengths.iter().copied().cycle().take(batch).collect();
            let mut data = filled(&kernel, -2.0, 2.0);
            for (data, dim) in data.iter_mut().zip([head_dim, head_dim, teacher_dim, teacher_dim]) {
                spoil_padding(data, length, heads * dim, &lengths);
            }
            data[4] = Data::Integers(lengths);
            cases.push(Case::new(kernel, data).at(state()));
        }
    }
    cases
}
