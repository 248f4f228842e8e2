//! The products of patches on the processor: some places at a time, as rows in a cache, times B.

use rayon::prelude::*;

use super::Matmul;
use crate::chain::{Row, place};
use crate::gemm::product;
use crate::patches::Patches;
use crate::{Args, DType, Real, StepState};

/// Elements of the rows that a task has in its cache.
const CACHED: usize = 1 << 16;
/// Most and fewest rows of these: with fewer, gemm has little to do between packing B and packing it again.
const ROWS: [usize; 2] = [512, 48];
/// Places of a part of a weight gradient, at least.
const PART: usize = 1 << 10;
/// Most parts of one, and most elements of all of them.
const MOST_PARTS: [usize; 2] = [16, 1 << 22];

/// What a product multiplies, and with what it ends.
struct Work<'a, F> {
    product: &'a Matmul,
    patches: Patches,
    image: &'a [F],
    b: &'a [F],
    operands: Vec<&'a [F]>,
    state: &'a StepState,
}

impl Matmul {
    /// The twin of a product whose A is patches.
    pub(super) fn run_patches<F: Real>(
        &self,
        patches: Patches,
        mut args: Args<'_, F>,
        state: &StepState,
    ) {
        let widened;
        let b: &[F] = match self.b_type {
            DType::F16 => {
                let halves = args.read_f16(1);
                let mut wide = vec![F::zero(); halves.len()];
                F::widen(halves, &mut wide);
                widened = wide;
                &widened
            }
            _ => args.read(1),
        };
        let count = self.chain.operands.len();
        let operands = (0..count).map(|operand| args.read(2 + operand)).collect();
        let work = Work { product: self, patches, image: args.read(0), b, operands, state };
        let out = args.write(2 + count);
        if self.trans_a {
            work.by_weights(out);
        } else {
            work.by_places(out);
        }
    }
}

/// Rows of a strip of `places`: as many as a cache holds, and all strips nearly alike.
fn strip(places: usize, depth: usize) -> usize {
    let most = (CACHED / depth.max(1)).clamp(ROWS[1], ROWS[0]);
    places.div_ceil(places.div_ceil(most).max(1)).max(1)
}

impl<F: Real> Work<'_, F> {
    /// Rows of `out` are places: strips of them are tasks.
    fn by_places(&self, out: &mut [F]) {
        let Matmul { m, n, k, .. } = *self.product;
        let rows = strip(m, k);
        out.par_chunks_mut(m * n).enumerate().for_each(|(group, out)| {
            let strips = out.par_chunks_mut(rows * n).enumerate();
            strips.for_each_init(Vec::new, |cache, (number, out)| {
                let first = number * rows;
                let places = first..first + out.len() / n;
                let seen = room(cache, places.len() * k);
                self.patches.gather(self.image, group, places.clone(), seen);
                let [b_row, b_col, b_batch] = self.product.b_strides();
                // SAFETY: `seen` has a row of k elements for each place, `out` one of n, and B lies as its strides say.
                unsafe {
                    product(
                        [places.len(), n, k],
                        (out.as_mut_ptr(), n, 1),
                        self.product.accumulate,
                        (seen.as_ptr(), k, 1),
                        (self.b[group * b_batch..].as_ptr(), b_row, b_col),
                        1.0,
                    );
                }
                self.finish(group * m + first, out);
            });
        });
    }

    /// Each element of `out` is a sum over all places: parts of them, which depend on the sizes alone, are tasks, and are
    /// added in order.
    fn by_weights(&self, out: &mut [F]) {
        let Matmul { m, n, k, accumulate, .. } = *self.product;
        let most = MOST_PARTS[0].min(MOST_PARTS[1] / (m * n)).max(1);
        let part = k.div_ceil(most.min(k.div_ceil(PART)).max(1)).max(1);
        for (group, out) in out.chunks_exact_mut(m * n).enumerate() {
            let starts = (0..k).step_by(part).collect::<Vec<_>>();
            let sum = |&first: &usize| self.part(group, first..k.min(first + part));
            let parts: Vec<Vec<F>> = starts.par_iter().map(sum).collect();
            let width = out.len().div_ceil(64).max(1 << 10);
            out.par_chunks_mut(width).enumerate().for_each(|(chunk, out)| {
                if !accumulate {
                    out.fill(F::zero());
                }
                for part in &parts {
                    let part = &part[chunk * width..][..out.len()];
                    out.iter_mut().zip(part).for_each(|(sum, &part)| *sum += part);
                }
            });
            self.finish(group * m, out);
        }
    }

    /// The sum over some places.
    fn part(&self, group: usize, places: std::ops::Range<usize>) -> Vec<F> {
        let Matmul { m, n, k, .. } = *self.product;
        let rows = strip(places.len(), m);
        let mut sums = vec![F::zero(); m * n];
        let mut cache = Vec::new();
        for first in places.clone().step_by(rows) {
            let places = first..places.end.min(first + rows);
            let seen = room(&mut cache, places.len() * m);
            self.patches.gather(self.image, group, places.clone(), seen);
            let b = &self.b[(group * k + places.start) * n..][..places.len() * n];
            // SAFETY: `seen` has a row of m elements for each place, `b` one of n, and the sums are m by n.
            unsafe {
                product(
                    [m, n, places.len()],
                    (sums.as_mut_ptr(), n, 1),
                    true,
                    (seen.as_ptr(), 1, m),
                    (b.as_ptr(), n, 1),
                    1.0,
                );
            }
        }
        sums
    }

    /// Applies the chain to rows of `out`, the first of which is number `first` of all.
    fn finish(&self, first: usize, out: &mut [F]) {
        let Matmul { n, chain, extent, .. } = self.product;
        if chain.is_empty() {
            return;
        }
        for (at, values) in (first..).zip(out.chunks_exact_mut(*n)) {
            let coord = place(at, 0, *extent);
            let row = Row { from: None, values };
            chain.apply_row(row, coord, *extent, &self.operands, self.state);
        }
    }
}

fn room<F: Real>(cache: &mut Vec<F>, len: usize) -> &mut [F] {
    cache.resize(cache.len().max(len), F::zero());
    &mut cache[..len]
}
