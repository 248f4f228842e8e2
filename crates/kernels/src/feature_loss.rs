//! How far rows of features are from the teacher's: cosine and mean square, loss and gradient in one kernel.
//! The formulas stand in `shaders/feature_loss.wgsl`.

use rayon::prelude::*;

use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Real, StepState, Variant, bytes, row, twin,
};

/// Added to the squares of a norm, as PyTorch's `CosineEmbeddingLoss` does.
const EPSILON: f64 = 1e-12;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;

/// What is measured of two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// 1 - cos of their angle.
    Cosine,
    /// The mean of their squared differences.
    Square,
}

/// Loss and gradient of rows against the teacher's.
///
/// Operands: `student` and `teacher` f32 [rows, cols]; `lengths` i32 [rows / positions]: positions from there on are
/// padding; `row_loss` \[rows]: weight · scale · value; and, if it is asked for, `gradient` [rows, cols] of their sum, times
/// the loss scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureLoss {
    /// Rows, at least 1.
    pub rows: usize,
    /// Columns, at least 1.
    pub cols: usize,
    /// What is measured.
    pub measure: Measure,
    /// Positions of an example, each a row; divides `rows`.
    pub positions: usize,
    /// Whether the mean is over tokens ([`StepState::token_scale`]), not over examples ([`StepState::soft_scale`]).
    pub tokens: bool,
    /// Weight of the term.
    pub weight: f32,
    /// Whether the gradient is made.
    pub gradient: bool,
}

impl FeatureLoss {
    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let mut overrides = tile.overrides().to_vec();
        overrides.push(("COSINE", f64::from(u8::from(self.measure == Measure::Cosine))));
        overrides.push(("TOKENS", f64::from(u8::from(self.tokens))));
        let sizes = [self.rows, tile.words(self.cols), self.positions].map(|size| size as u32);
        vec![Launch {
            source: tile.source("feature_loss"),
            entry: if self.gradient { "value_and_gradient" } else { "value" },
            overrides,
            dims: sizes.into_iter().chain([self.weight.to_bits()]).collect(),
            bindings: (0..self.operands().len()).map(Some).collect(),
            workgroups: tile.grid(self.rows, caps),
        }]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let (student, teacher, lengths) = (args.read(0), args.read(1), args.read_i32(2));
        let row_loss = args.write(3);
        let share = F::of(self.weight)
            * F::of(if self.tokens { state.token_scale } else { state.soft_scale });
        let slope = F::of(state.loss_scale) * share;
        let none: &mut [F] = &mut [];
        let gradient = if self.gradient { args.write(4) } else { none };
        let rows = TASK_LEN.div_ceil(self.cols);
        let mut gradients: Vec<&mut [F]> = gradient.chunks_mut(rows * self.cols).collect();
        gradients.resize_with(self.rows.div_ceil(rows), Default::default);
        let tasks = row_loss.par_chunks_mut(rows).zip(gradients).enumerate();
        tasks.for_each(|(task, (row_loss, gradient))| {
            row::vectorised(
                #[inline(always)]
                || {
                    let mut gradients = gradient.chunks_exact_mut(self.cols);
                    for (row, row_loss) in (task * rows..).zip(row_loss) {
                        let range = row * self.cols..(row + 1) * self.cols;
                        let (s, t) = (&student[range.clone()], &teacher[range]);
                        let gradient = gradients.next();
                        let end = lengths[row / self.positions];
                        if (row % self.positions) as i32 >= end {
                            *row_loss = F::zero();
                            gradient.into_iter().for_each(|gradient| gradient.fill(F::zero()));
                            continue;
                        }
                        *row_loss = share * self.row(s, t, slope, gradient);
                    }
                },
            );
        });
    }

    /// A row's value; its gradient is written, times `slope`.
    #[inline(always)]
    fn row<F: Real>(&self, s: &[F], t: &[F], slope: F, gradient: Option<&mut [F]>) -> F {
        let cosine = self.measure == Measure::Cosine;
        let squares = row::sums_of(
            s,
            t,
            #[inline(always)]
            |s, t| [s * s, t * t],
        );
        let shrink = squares.map(|sum| if cosine { 1.0 / (sum + EPSILON).sqrt() } else { 1.0 });
        let [shrink_s, shrink_t] = shrink.map(F::of64);
        let [sum] = row::sums_of(
            s,
            t,
            #[inline(always)]
            |s, t| {
                let d = s * shrink_s - t * shrink_t;
                [d * d]
            },
        );
        let value = match self.measure {
            Measure::Cosine => {
                0.5 * (sum + shrink.iter().map(|shrink| EPSILON * shrink * shrink).sum::<f64>())
            }
            Measure::Square => sum / self.cols as f64,
        };
        let value = F::of64(value);
        let factor = slope * if cosine { shrink_s } else { F::of64(2.0 / self.cols as f64) };
        let pull = if cosine { value } else { F::zero() };
        if let Some(gradient) = gradient {
            for ((gradient, &s), &t) in gradient.iter_mut().zip(s).zip(t) {
                let u = s * shrink_s;
                *gradient = factor * ((u - t * shrink_t) - pull * u);
            }
        }
        value
    }
}

impl Kernel for FeatureLoss {
    fn name(&self) -> &'static str {
        "feature_loss"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.cols;
        let mut operands = vec![
            Operand::read("student", len),
            Operand::read("teacher", len),
            Operand::read_i32("lengths", self.rows / self.positions),
            Operand::write("row_loss", self.rows),
        ];
        operands.extend(self.gradient.then(|| Operand::write("gradient", len)));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(RowTile::new(self.rows, self.cols, caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let default = RowTile::new(self.rows, self.cols, caps);
        default.variants(self.cols, caps, |tile| self.launches_with(tile, caps))
    }

    fn bucket(&self) -> String {
        let gradient = if self.gradient { " with gradient" } else { "" };
        format!(
            "{:?} {}{gradient}",
            self.measure,
            row_tile::bucket(self.rows, self.cols, &[self.cols])
        )
    }

    fn halves(&self) -> Vec<usize> {
        [0, 1].into_iter().chain(self.gradient.then_some(4)).collect()
    }

    /// Rows stay in the cache between the passes over them.
    fn cost(&self) -> Cost {
        let len = self.rows * self.cols;
        let cosine = self.measure == Measure::Cosine;
        let flops = 3 + 6 * usize::from(cosine) + 4 * usize::from(self.gradient);
        let gradient = if self.gradient { len } else { 0 };
        Cost {
            flops: (flops * len) as u64,
            bytes_read: bytes(2 * len + self.rows / self.positions),
            bytes_written: bytes(gradient + self.rows),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    const ROWS: usize = 6;
    const COLS: usize = 5;

    fn numbers(len: usize, salt: u32) -> Vec<f64> {
        let unit = |i| f64::from(random::unit(random::word(salt, 5, 0, i)));
        (0..len as u32).map(|i| unit(i) - 0.4).collect()
    }

    fn run(measure: Measure, s: &[f64], t: &[f64], lengths: &[i32]) -> [Vec<f64>; 2] {
        let kernel = FeatureLoss {
            rows: ROWS,
            cols: s.len() / ROWS,
            measure,
            positions: ROWS / lengths.len(),
            tokens: true,
            weight: 0.5,
            gradient: true,
        };
        let state = StepState { token_scale: 0.25, ..StepState::default() };
        let [mut loss, mut gradient] = [ROWS, s.len()].map(|len| vec![f64::NAN; len]);
        let args = vec![
            Arg::Read(s),
            Arg::Read(t),
            Arg::ReadI32(lengths),
            Arg::Write(&mut loss),
            Arg::Write(&mut gradient),
        ];
        kernel.run_f64(Args::new(args), &state);
        [loss, gradient]
    }

    #[test]
    fn values_are_those_of_the_definitions() {
        let (s, t) = (numbers(ROWS * COLS, 1), numbers(ROWS * COLS, 2));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for measure in [Measure::Cosine, Measure::Square] {
            let [loss, _] = run(measure, &s, &t, &[3, 3]);
            for (row, (s, t)) in s.chunks(COLS).zip(t.chunks(COLS)).enumerate() {
                let difference: Vec<f64> = s.iter().zip(t).map(|(s, t)| s - t).collect();
                let expected = match measure {
                    Measure::Cosine => 1.0 - dot(s, t) / (dot(s, s) * dot(t, t)).sqrt(),
                    Measure::Square => dot(&difference, &difference) / COLS as f64,
                };
                let error = (loss[row] - 0.125 * expected).abs();
                assert!(error < 1e-12, "{measure:?} of row {row}: off by {error:e}");
            }
        }
    }

    #[test]
    fn padding_counts_in_nothing() {
        let (mut s, t) = (numbers(ROWS * COLS, 1), numbers(ROWS * COLS, 2));
        s[2 * COLS] = f64::NAN;
        for measure in [Measure::Cosine, Measure::Square] {
            let [loss, gradient] = run(measure, &s, &t, &[2, -1]);
            assert!(loss[..2].iter().all(|&loss| loss > 0.0) && loss[2..] == [0.0; 4]);
            assert!(gradient[2 * COLS..].iter().all(|&g| g == 0.0));
        }
    }

    #[test]
    fn the_same_direction_is_no_distance() {
        let t = numbers(ROWS * COLS, 2);
        let s: Vec<f64> = t.iter().map(|t| 3.0 * t).collect();
        let [loss, ..] = run(Measure::Cosine, &s, &t, &[3, 3]);
        // Epsilon's share of it.
        assert!(loss.iter().all(|&loss| loss < 1e-11), "{loss:?}");
        let [loss, ..] = run(Measure::Cosine, &[0.0; ROWS * COLS], &t, &[3, 3]);
        assert!(loss.iter().all(|&loss| (loss - 0.125).abs() < 1e-11), "{loss:?}");
    }
}
