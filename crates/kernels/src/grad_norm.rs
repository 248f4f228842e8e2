//! Clipping by the global norm of the gradients.
//!
//! [`GradNormPartial`] squares and sums one segment of the gradients; several segments fill one array of
//! partial sums, of which [`GradNormFinish`] makes the norm and the factor that
//! [`crate::optimizer::Optimizer`] multiplies gradients by. Pascanu, Mikolov and Bengio, "On the
//! difficulty of training recurrent neural networks", 2013; constants as
//! `torch.nn.utils.clip_grad_norm_`.

use rayon::prelude::*;

use crate::parts::cuts;
use crate::row;
use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Part, Real, StepState, Variant, bytes, twin,
};

/// Most threads of a partial sum.
const LANES: usize = 256;
const MAX_PARTIALS: usize = 8192;

/// partials\[i] = Σ g² over a share of `grads`, added onto what is there with `accumulate`.
///
/// Operands: `grads` \[len], `partials` \[partials]: the segment's part of the array that
/// [`GradNormFinish`] sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradNormPartial {
    /// Gradients in the segment.
    pub len: usize,
    /// Partial sums, at most 8192.
    pub partials: usize,
    /// Whether the sums are added onto those of other gradients.
    pub accumulate: bool,
}

impl GradNormPartial {
    /// With as many partial sums as suit the length.
    pub fn new(len: usize) -> Self {
        const ELEMENTS_A_THREAD: usize = 16;
        let partials = len.div_ceil(LANES * ELEMENTS_A_THREAD).clamp(1, MAX_PARTIALS);
        Self { len, partials, accumulate: false }
    }

    /// Gradients of a partial sum.
    fn share(&self) -> usize {
        self.len.div_ceil(self.partials).max(1).next_multiple_of(4)
    }

    fn tile(&self, caps: &Caps) -> RowTile {
        tile(self.share(), caps).for_rows_apart(&[self.len])
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let mut overrides = tile.overrides().to_vec();
        overrides.extend(self.accumulate.then_some(("ACCUMULATE", 1.0)));
        let [words, share] = [self.len, self.share()].map(|len| tile.words(len) as u32);
        vec![Launch {
            source: tile.source("grad_norm"),
            entry: "partial",
            overrides,
            dims: vec![words, share, self.partials as u32, 0],
            bindings: vec![Some(0), Some(1)],
            workgroups: tile.grid(self.partials, caps),
        }]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let grads = args.read(0);
        let share = self.share();
        args.write(1).par_iter_mut().enumerate().for_each(|(i, partial)| {
            let start = (i * share).min(self.len);
            let grads = &grads[start..(start + share).min(self.len)];
            let before = if self.accumulate { partial.f64() } else { 0.0 };
            let [squares] = row::sums(
                grads,
                grads,
                #[inline(always)]
                |g, _| [g * g],
            );
            *partial = F::of64(before + squares);
        });
    }
}

impl Kernel for GradNormPartial {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let partials = if self.accumulate { Operand::update } else { Operand::write };
        vec![Operand::read("grads", self.len), partials("partials", self.partials)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        self.tile(caps).variants(self.share(), caps, |tile| self.launches_with(tile, caps))
    }

    fn bucket(&self) -> String {
        let added = if self.accumulate { "added " } else { "" };
        format!("{added}{}", row_tile::bucket(self.partials, self.share(), &[self.len]))
    }

    fn parts(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        let part = |range: std::ops::Range<usize>| {
            let accumulate = self.accumulate || range.start > 0;
            Part::new(Self { len: range.len(), accumulate, ..*self }, &[(0, range.start), (1, 0)])
        };
        let ranges = if operand == 0 { cuts(self.len, 1, most)? } else { return None };
        Some(ranges.into_iter().map(part).collect())
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: 2 * self.len as u64,
            bytes_read: bytes(self.len),
            bytes_written: bytes(self.partials),
        }
    }

    twin!();
}

/// norm\[0] = Σ partials, the squared norm; norm\[1] = min(1, max_norm / (√norm\[0] + 1e-6)).
///
/// Operands: `partials` \[partials], `norm` \[2]. A NaN gradient makes both NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradNormFinish {
    /// Partial sums of all segments.
    pub partials: usize,
    /// Largest norm that is left as it is.
    pub max_norm: f32,
}

impl GradNormFinish {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let squares = args.read(0).iter().map(|p| p.f64()).sum::<f64>();
        let factor = f64::from(self.max_norm) / (squares.sqrt() + 1e-6);
        let norm = args.write(1);
        norm[0] = F::of64(squares);
        norm[1] = F::of64(if factor >= 1.0 { 1.0 } else { factor });
    }
}

impl Kernel for GradNormFinish {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![Operand::read("partials", self.partials), Operand::write("norm", 2)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let tile = RowTile { rows: 1, ..tile(self.partials, caps) };
        vec![Launch {
            source: tile.source("grad_norm"),
            entry: "finish",
            overrides: tile.overrides().to_vec(),
            dims: vec![self.partials as u32, 0, 0, self.max_norm.to_bits()],
            bindings: vec![Some(0), Some(1)],
            workgroups: [1, 1, 1],
        }]
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: self.partials as u64,
            bytes_read: bytes(self.partials),
            bytes_written: bytes(2),
        }
    }

    twin!();
}

/// How threads take one sum of so many numbers. A driver on the CPU pays for barriers: there a subgroup takes it.
fn tile(len: usize, caps: &Caps) -> RowTile {
    let one = RowTile::one_subgroup(len, caps).filter(|_| caps.software);
    one.unwrap_or_else(|| RowTile::of_lanes((len / 4).next_power_of_two().clamp(32, LANES)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    fn clip(segments: &[Vec<f64>], max_norm: f32) -> [f64; 2] {
        let state = StepState::default();
        let kernels: Vec<_> = segments.iter().map(|s| GradNormPartial::new(s.len())).collect();
        let mut partials = vec![f64::NAN; kernels.iter().map(|k| k.partials).sum()];
        let mut rest = partials.as_mut_slice();
        for (kernel, grads) in kernels.iter().zip(segments) {
            let (view, tail) = rest.split_at_mut(kernel.partials);
            kernel.run_f64(Args::new(vec![Arg::Read(grads), Arg::Write(view)]), &state);
            rest = tail;
        }
        let mut norm = [0.0; 2];
        let args = Args::new(vec![Arg::Read(&partials), Arg::Write(&mut norm)]);
        GradNormFinish { partials: partials.len(), max_norm }.run_f64(args, &state);
        norm
    }

    #[test]
    fn agrees_with_plain_loops() {
        for lens in [vec![1], vec![2, 4096, 4097], vec![5_000_000], vec![10_001, 7, 300_000]] {
            let wave = |i: usize| (i as f64 * 0.7).sin();
            let segments: Vec<Vec<f64>> =
                lens.iter().map(|&len| (1..=len).map(wave).collect()).collect();
            let squares: f64 = segments.iter().flatten().map(|g| g * g).sum();
            let [sum, factor] = clip(&segments, 0.5);
            assert!((sum - squares).abs() < 1e-10 * squares);
            assert!((factor - 0.5 / (squares.sqrt() + 1e-6)).abs() < 1e-12);
            assert_eq!(clip(&segments, 1e9)[1], 1.0);
        }
    }

    #[test]
    fn keeps_nan_and_leaves_zero() {
        assert!(clip(&[vec![1.0, f64::NAN]], 1.0).iter().all(|v| v.is_nan()));
        assert_eq!(clip(&[vec![0.0; 10]], 1.0), [0.0, 1.0]);
    }

    #[test]
    fn partials_are_bounded() {
        let partials = [0, 1, 4096, 4097, 1 << 30].map(|len| GradNormPartial::new(len).partials);
        assert_eq!(partials, [1, 1, 1, 2, 8192]);
    }
}
