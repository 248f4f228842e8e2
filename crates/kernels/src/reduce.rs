//! Sum, mean and maximum along one axis.

use rayon::prelude::*;

use crate::row::vectorised;
use crate::row_tile::RowTile;
use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

/// Columns of a workgroup of `columns`.
const TILE_COLUMNS: usize = 32;
/// Elements a CPU task folds before partial results are combined, in order.
const BLOCK: usize = 1 << 16;

/// What a reduction makes of the elements along its axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest, or NaN where there is one.
    Max,
}

impl ReduceOp {
    fn neutral(self) -> f64 {
        match self {
            Self::Sum | Self::Mean => 0.0,
            Self::Max => f64::NEG_INFINITY,
        }
    }

    #[inline(always)]
    fn combine(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum | Self::Mean => a + b,
            Self::Max if b > a || b.is_nan() => b,
            Self::Max => a,
        }
    }
}

/// out[o, i] = op over l of x[o, l, i]: [outer, len, inner] → [outer, inner].
///
/// Operands: `x` [outer, len, inner], `out` [outer, inner].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What becomes of the elements.
    pub op: ReduceOp,
    /// Product of the extents before the reduced axis.
    pub outer: usize,
    /// Extent of the reduced axis, at least 1.
    pub len: usize,
    /// Product of the extents behind it.
    pub inner: usize,
    /// Whether the result is added onto `out` (of a maximum: whether the larger of both is kept).
    pub accumulate: bool,
}

impl Reduce {
    /// Two passes in place of one that would leave most of a GPU idle: few outputs over a long axis.
    /// The first makes [outer, parts, inner] (its `outer` counts the parts), the second reduces the parts.
    /// `None` where one pass does as well, or the axis divides badly.
    pub fn split(&self) -> Option<(Self, Self)> {
        const WORKGROUPS: usize = 128;
        const LEAST: usize = 32;
        let parts = WORKGROUPS / self.workgroups().max(1);
        let parts =
            (2..=parts.min(self.len / LEAST)).rev().find(|p| self.len.is_multiple_of(*p))?;
        let first =
            Self { outer: self.outer * parts, len: self.len / parts, accumulate: false, ..*self };
        Some((first, Self { len: parts, ..*self }))
    }

    fn outputs(&self) -> usize {
        self.outer * self.inner
    }

    fn workgroups(&self) -> usize {
        self.outer * self.inner.div_ceil(TILE_COLUMNS)
    }

    fn row<F: Real>(&self, x: &[F]) -> f64 {
        let fold = |x: &[F]| {
            x.iter().fold(self.op.neutral(), |folded, v| self.op.combine(folded, v.f64()))
        };
        if x.len() <= BLOCK {
            return fold(x);
        }
        let partials: Vec<f64> = x.par_chunks(BLOCK).map(fold).collect();
        self.row(&partials)
    }

    fn columns<F: Real>(&self, x: &[F]) -> Vec<f64> {
        let fold = |x: &[F]| {
            let mut folded = vec![self.op.neutral(); self.inner];
            vectorised(
                #[inline(always)]
                || {
                    for row in x.chunks_exact(self.inner) {
                        match self.op {
                            ReduceOp::Sum | ReduceOp::Mean => {
                                folded.iter_mut().zip(row).for_each(|(sum, v)| *sum += v.f64());
                            }
                            ReduceOp::Max => {
                                let columns = folded.iter_mut().zip(row);
                                columns.for_each(|(top, v)| *top = self.op.combine(*top, v.f64()));
                            }
                        }
                    }
                },
            );
            folded
        };
        let rows = BLOCK.div_ceil(self.inner).max(16);
        if x.len() <= rows * self.inner {
            return fold(x);
        }
        let partials: Vec<f64> = x.par_chunks(rows * self.inner).flat_map_iter(fold).collect();
        self.columns(&partials)
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let x = args.read(0);
        let out = args.write(1);
        let store = |out: &mut F, folded: f64| {
            let folded = if self.op == ReduceOp::Mean { folded / self.len as f64 } else { folded };
            let kept = if self.accumulate { self.op.combine(out.f64(), folded) } else { folded };
            *out = F::of64(kept);
        };
        let volume = self.len * self.inner;
        let outers = BLOCK.div_ceil(volume);
        out.par_chunks_mut(outers * self.inner).zip(x.par_chunks(outers * volume)).for_each(
            |(out, x)| {
                for (out, x) in out.chunks_mut(self.inner).zip(x.chunks(volume)) {
                    if self.inner == 1 {
                        store(&mut out[0], self.row(x));
                    } else {
                        out.iter_mut().zip(self.columns(x)).for_each(|(out, v)| store(out, v));
                    }
                }
            },
        );
    }
}

impl Kernel for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn operands(&self) -> Vec<Operand> {
        let out = if self.accumulate { Operand::update } else { Operand::write };
        vec![Operand::read("x", self.outputs() * self.len), out("out", self.outputs())]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let mut overrides = vec![
            ("MAXIMUM", f64::from(self.op == ReduceOp::Max)),
            ("ACCUMULATE", f64::from(self.accumulate)),
        ];
        let scale = if self.op == ReduceOp::Mean { 1.0 / self.len as f64 } else { 1.0 };
        let (entry, workgroups) = if self.inner == 1 {
            let tile = RowTile::by_tree(self.outer, self.len, caps);
            overrides.extend(tile.overrides());
            ("rows", tile.grid(self.outer, caps))
        } else {
            ("columns", caps.grid(self.workgroups()))
        };
        vec![Launch {
            source: Source::of("reduce"),
            entry,
            overrides,
            dims: vec![
                self.outputs() as u32,
                self.len as u32,
                self.inner as u32,
                (self.op.neutral() as f32).to_bits(),
                (scale as f32).to_bits(),
            ],
            bindings: vec![Some(0), Some(1)],
            workgroups,
        }]
    }

    fn halves(&self) -> Vec<usize> {
        vec![0]
    }

    fn cost(&self) -> Cost {
        let read = self.outputs() * (self.len + usize::from(self.accumulate));
        Cost { flops: read as u64, bytes_read: bytes(read), bytes_written: bytes(self.outputs()) }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    fn numbers(len: usize) -> Vec<f64> {
        (0..len as u32).map(|i| f64::from(random::unit(random::word(3, 5, 0, i))) - 0.5).collect()
    }

    fn run(reduce: Reduce, x: &[f64], mut out: Vec<f64>) -> Vec<f64> {
        let args = Args::new(vec![Arg::Read(x), Arg::Write(&mut out)]);
        reduce.run_f64(args, &StepState::default());
        out
    }

    fn naive(reduce: Reduce, x: &[f64], out: &[f64]) -> Vec<f64> {
        let Reduce { op, outer, len, inner, accumulate } = reduce;
        let mut reduced = Vec::new();
        for o in 0..outer {
            for i in 0..inner {
                let axis = (0..len).map(|l| x[(o * len + l) * inner + i]);
                let v = match op {
                    ReduceOp::Sum => axis.sum(),
                    ReduceOp::Mean => axis.sum::<f64>() / len as f64,
                    ReduceOp::Max => axis.fold(f64::NEG_INFINITY, f64::max),
                };
                let old = out[reduced.len()];
                reduced.push(match (accumulate, op) {
                    (false, _) => v,
                    (true, ReduceOp::Max) => v.max(old),
                    (true, _) => v + old,
                });
            }
        }
        reduced
    }

    fn assert_near(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{a} against {b}");
        }
    }

    const OPS: [ReduceOp; 3] = [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max];
    const SHAPES: [[usize; 3]; 10] = [
        [1, 1, 1],
        [3, 7, 1],
        [5, 1, 4],
        [2, 9, 33],
        [300, 10, 1],
        [1, 200_000, 1],
        [1, 6000, 48],
        [2, 3, 70_001],
        [900, 13, 11],
        [4, 70_000, 1],
    ];

    #[test]
    fn agrees_with_plain_loops() {
        for [outer, len, inner] in SHAPES {
            let x = numbers(outer * len * inner);
            let old = numbers(outer * inner);
            for op in OPS {
                for accumulate in [false, true] {
                    let reduce = Reduce { op, outer, len, inner, accumulate };
                    assert_near(&run(reduce, &x, old.clone()), &naive(reduce, &x, &old));
                }
            }
        }
    }

    #[test]
    fn two_passes_make_one() {
        for [outer, len, inner] in [[1, 100_352, 1], [1, 100_352, 32], [2, 640, 10]] {
            let x = numbers(outer * len * inner);
            let old = numbers(outer * inner);
            for op in OPS {
                let reduce = Reduce { op, outer, len, inner, accumulate: true };
                let (first, second) = reduce.split().expect("a long axis over few outputs");
                assert_eq!(first.outputs() * first.len, x.len());
                let parts = run(first, &x, vec![0.0; first.outputs()]);
                assert_near(&run(second, &parts, old.clone()), &run(reduce, &x, old.clone()));
            }
        }
        let short = Reduce { op: ReduceOp::Sum, outer: 1, len: 50, inner: 8, accumulate: false };
        let prime = Reduce { len: 10_007, ..short };
        let wide = Reduce { len: 1024, inner: 8192, ..short };
        assert_eq!([short, prime, wide].map(|reduce| reduce.split()), [None; 3]);
    }

    #[test]
    fn maximum_keeps_nan() {
        let x = [1.0, f64::NAN, 2.0, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        let reduce = Reduce { op: ReduceOp::Max, outer: 2, len: 3, inner: 1, accumulate: false };
        let out = run(reduce, &x, vec![0.0; 2]);
        assert!(out[0].is_nan());
        assert_eq!(out[1], f64::NEG_INFINITY);
        let x = [f64::NAN, 1.0, 5.0, 2.0];
        let out = run(Reduce { outer: 1, len: 2, inner: 2, ..reduce }, &x, vec![0.0; 2]);
        assert!(out[0].is_nan());
        assert_eq!(out[1], 2.0);
    }

    #[test]
    fn long_f32_sums_stay_exact() {
        let x = vec![0.1_f32; 1 << 20];
        let mut out = [0.0];
        let reduce =
            Reduce { op: ReduceOp::Mean, outer: 1, len: x.len(), inner: 1, accumulate: false };
        let args = Args::new(vec![Arg::Read(&x), Arg::Write(&mut out)]);
        reduce.run_f32(args, &StepState::default());
        assert_eq!(out, [0.1]);
    }
}
