//! Softmax over the rows of a matrix, and its gradient.

use rayon::prelude::*;

use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Real, StepState, Variant, bytes, row, twin,
};

/// Forward y = exp(x - max) / Σ exp(x - max) over each row; backward dx = y · (dy - Σ y · dy).
///
/// Operands, all [rows, cols]: forward `x`, `y`; backward `y`, `dy`, `dx`.
/// A row of -inf gives NaN, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Rows of the matrix.
    pub rows: usize,
    /// Elements of a row, at least 1.
    pub cols: usize,
    /// Whether this is the gradient.
    pub backward: bool,
}

impl Softmax {
    fn len(&self) -> usize {
        self.rows * self.cols
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let (entry, bindings) = if self.backward {
            ("backward", vec![Some(0), Some(2), Some(1)])
        } else {
            ("forward", vec![Some(0), Some(1)])
        };
        vec![Launch {
            source: tile.source("softmax"),
            entry,
            overrides: tile.overrides().to_vec(),
            dims: [self.rows, tile.words(self.cols)].map(|n| n as u32).to_vec(),
            bindings,
            workgroups: tile.grid(self.rows, caps),
        }]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let rows_a_task = (1_usize << 14).div_ceil(self.cols);
        let task = rows_a_task * self.cols;
        if self.backward {
            let (y, dy, dx) = (args.read(0), args.read(1), args.write(2));
            let tasks = dx.par_chunks_mut(task).zip(y.par_chunks(task)).zip(dy.par_chunks(task));
            tasks.for_each(|((dx, y), dy)| {
                let rows = dx.chunks_mut(self.cols).zip(y.chunks(self.cols));
                rows.zip(dy.chunks(self.cols)).for_each(|((dx, y), dy)| backward(y, dy, dx));
            });
        } else {
            let (x, y) = (args.read(0), args.write(1));
            y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
                y.chunks_mut(self.cols).zip(x.chunks(self.cols)).for_each(|(y, x)| forward(x, y));
            });
        }
    }
}

fn forward<F: Real>(x: &[F], y: &mut [F]) {
    let (max, _) = row::peak(x);
    let sum = row::update(
        y,
        x,
        #[inline(always)]
        move |_, x| {
            let exp = (x - max).fast_exp();
            (exp, exp)
        },
    );
    let sum = F::of64(sum);
    row::map(
        y,
        #[inline(always)]
        move |y| y / sum,
    );
}

fn backward<F: Real>(y: &[F], dy: &[F], dx: &mut [F]) {
    let sum = F::of64(y.iter().zip(dy).map(|(y, dy)| y.f64() * dy.f64()).sum());
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = y * (dy - sum);
    }
}

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.len();
        if self.backward {
            vec![Operand::read("y", len), Operand::read("dy", len), Operand::write("dx", len)]
        } else {
            vec![Operand::read("x", len), Operand::write("y", len)]
        }
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(RowTile::new(self.rows, self.cols, caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let default = RowTile::new(self.rows, self.cols, caps);
        default.variants(self.cols, caps, |tile| self.launches_with(tile, caps))
    }

    fn bucket(&self) -> String {
        let pass = if self.backward { "backward" } else { "forward" };
        format!("{pass} {}", row_tile::bucket(self.rows, self.cols, &[self.cols]))
    }

    fn cost(&self) -> Cost {
        let len = self.len();
        Cost {
            flops: 4 * len as u64,
            bytes_read: bytes(if self.backward { 2 * len } else { len }),
            bytes_written: bytes(len),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    fn numbers(len: usize, stream: u32) -> Vec<f64> {
        let unit = |i| f64::from(random::unit(random::word(1, stream, 0, i)));
        (0..len as u32).map(|i| 8.0 * unit(i) - 4.0).collect()
    }

    fn softmax(x: &[f64], rows: usize, cols: usize) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        let args = Args::new(vec![Arg::Read(x), Arg::Write(&mut y)]);
        Softmax { rows, cols, backward: false }.run_f64(args, &StepState::default());
        y
    }

    const SHAPES: [(usize, usize); 5] = [(1, 1), (5, 10), (3, 257), (2000, 17), (2, 20_000)];

    #[test]
    fn forward_agrees_with_the_definition() {
        for (rows, cols) in SHAPES {
            let x = numbers(rows * cols, 1);
            for (y, x) in softmax(&x, rows, cols).chunks(cols).zip(x.chunks(cols)) {
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                for (y, x) in y.iter().zip(x) {
                    assert!((y - x.exp() / sum).abs() < 1e-14);
                }
            }
        }
    }

    #[test]
    fn forward_is_stable() {
        let inf = f64::INFINITY;
        assert_eq!(softmax(&[1e4, 1e4, -1e4, -inf], 1, 4), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(softmax(&[-inf, -1e30, -1e30], 1, 3), [0.0, 0.5, 0.5]);
        assert!(softmax(&[-inf, -inf], 1, 2).iter().all(|y| y.is_nan()));
        assert!(softmax(&[f64::NAN, 1.0], 1, 2).iter().all(|y| y.is_nan()));
    }

    #[test]
    fn backward_agrees_with_central_differences() {
        for (rows, cols) in [(1, 1), (3, 5), (2, 40)] {
            let (x, dy) = (numbers(rows * cols, 1), numbers(rows * cols, 2));
            let y = softmax(&x, rows, cols);
            let mut dx = vec![0.0; x.len()];
            let args = Args::new(vec![Arg::Read(&y), Arg::Read(&dy), Arg::Write(&mut dx)]);
            Softmax { rows, cols, backward: true }.run_f64(args, &StepState::default());
            let loss = |x: &[f64]| -> f64 {
                softmax(x, rows, cols).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
            };
            for (i, dx) in dx.iter().enumerate() {
                let h = 1e-5;
                let at = |d: f64| {
                    let mut x = x.clone();
                    x[i] += d;
                    loss(&x)
                };
                let numeric = (at(h) - at(-h)) / (2.0 * h);
                assert!((dx - numeric).abs() < 1e-8, "{dx} against {numeric}");
            }
        }
    }

    #[test]
    fn backward_covers_every_task() {
        for (rows, cols) in SHAPES {
            let (y, dy) = (numbers(rows * cols, 1), numbers(rows * cols, 2));
            let mut dx = vec![0.0; y.len()];
            let args = Args::new(vec![Arg::Read(&y), Arg::Read(&dy), Arg::Write(&mut dx)]);
            Softmax { rows, cols, backward: true }.run_f64(args, &StepState::default());
            for r in 0..rows {
                let row = r * cols..(r + 1) * cols;
                let sum: f64 = row.clone().map(|i| y[i] * dy[i]).sum();
                assert!(row.into_iter().all(|i| dx[i] == y[i] * (dy[i] - sum)));
            }
        }
    }
}
