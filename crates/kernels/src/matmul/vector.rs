//! Products of few rows on the processor: each column of `out` is a row of B times every row of A, which is read once,
//! where gemm would pack all of B first.

use rayon::prelude::*;

use super::Matmul;
use super::twin::Out;
use crate::chain::{self, Row};
use crate::row::vectorised;
use crate::{DType, Real, StepState};

/// The most rows.
const MOST_ROWS: usize = 4;
/// The fewest numbers of B: of fewer, gemm has them in a cache as soon.
const LEAST: usize = 1 << 15;
/// Sums that run side by side.
const LANES: usize = 32;
/// Columns of a task: their number changes no bit.
const TASK: usize = 64;

impl Matmul {
    /// Whether this product is made here.
    pub(super) fn has_few_rows(&self) -> bool {
        let plain = self.patches.is_none()
            && self.trans_b
            && !self.trans_a
            && self.b_type == DType::F32
            && !self.accumulate;
        let whole = self.out_row_len() == self.n && self.a_strides()[0] == self.k;
        plain && whole && self.batch == 1 && self.m <= MOST_ROWS && self.n * self.k >= LEAST
    }

    pub(super) fn run_few_rows<F: Real>(
        &self,
        [a, b]: [&[F]; 2],
        out: &Out<F>,
        operands: &[&[F]],
        state: &StepState,
    ) {
        let Self { m, n, k, .. } = *self;
        let (a, b) = (&a[..m * k], &b[..n * k]);
        b.par_chunks(TASK * k).enumerate().for_each(|(task, b)| {
            let (first, cols) = (task * TASK, b.len() / k);
            let mut sums = [[F::zero(); TASK]; MOST_ROWS];
            match m {
                1 => columns::<F, 1>(a, b, k, &mut sums),
                2 => columns::<F, 2>(a, b, k, &mut sums),
                3 => columns::<F, 3>(a, b, k, &mut sums),
                _ => columns::<F, 4>(a, b, k, &mut sums),
            }
            for (row, sums) in sums.iter().take(m).enumerate() {
                // SAFETY: these columns of the row are this task's alone.
                let values =
                    unsafe { std::slice::from_raw_parts_mut(out.0.add(row * n + first), cols) };
                values.copy_from_slice(&sums[..cols]);
                if !self.chain.is_empty() {
                    let coord = chain::place(row, first, self.extent);
                    let values = Row { from: None, values };
                    self.chain.apply_row(values, coord, self.extent, operands, state);
                }
            }
        });
    }
}

/// Each row of b times each of `M` rows of a.
fn columns<F: Real, const M: usize>(a: &[F], b: &[F], k: usize, out: &mut [[F; TASK]; MOST_ROWS]) {
    let a: [&[F]; M] = std::array::from_fn(|row| &a[row * k..(row + 1) * k]);
    vectorised(
        #[inline(always)]
        || {
            for (col, b) in b.chunks_exact(k).enumerate() {
                let (b, b_rest) = b.as_chunks::<LANES>();
                let mut sums = [[F::zero(); LANES]; M];
                for (at, b) in b.iter().enumerate() {
                    for row in 0..M {
                        let a = &a[row][at * LANES..(at + 1) * LANES];
                        for lane in 0..LANES {
                            sums[row][lane] = a[lane].mul_add(b[lane], sums[row][lane]);
                        }
                    }
                }
                let whole = k - b_rest.len();
                for row in 0..M {
                    let rest: F = a[row][whole..].iter().zip(b_rest).map(|(&a, &b)| a * b).sum();
                    out[row][col] = folded(sums[row]) + rest;
                }
            }
        },
    );
}

/// The sum of lanes, in halves.
#[inline(always)]
fn folded<F: Real>(mut lanes: [F; LANES]) -> F {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
