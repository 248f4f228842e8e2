//! The max-norm constraint on the incoming weights of each unit.

use rayon::prelude::*;

use crate::parts::cuts;
use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Part, Real, StepState, Variant, bytes, twin,
};

/// Scales each row of `w` whose L2 norm exceeds the bound down to it, in place.
///
/// Operand: `w` [rows, cols], in PyTorch's layout of a linear layer, [out_features, in_features].
/// From Hinton et al., "Improving neural networks by preventing co-adaptation of feature detectors", 2012.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxNorm {
    /// Units.
    pub rows: usize,
    /// Incoming weights of a unit.
    pub cols: usize,
    /// Largest L2 norm of a row.
    pub bound: f32,
}

impl MaxNorm {
    fn tile(&self, caps: &Caps) -> RowTile {
        RowTile::new(self.rows, self.cols, caps)
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        vec![Launch {
            source: tile.source("max_norm"),
            entry: "max_norm",
            overrides: tile.overrides().to_vec(),
            dims: vec![self.rows as u32, tile.words(self.cols) as u32, self.bound.to_bits()],
            bindings: vec![Some(0)],
            workgroups: tile.grid(self.rows, caps),
        }]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let bound = F::of(self.bound);
        args.write(0).par_chunks_mut(self.cols).for_each(|row| {
            let squares: f64 = row.iter().map(|w| w.f64() * w.f64()).sum();
            let norm = F::of64(squares.sqrt());
            if norm > bound {
                for w in row {
                    *w *= bound / norm;
                }
            }
        });
    }
}

impl Kernel for MaxNorm {
    fn name(&self) -> &'static str {
        "max_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![Operand::update("w", self.rows * self.cols)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        self.tile(caps).variants(self.cols, caps, |tile| self.launches_with(tile, caps))
    }

    fn bucket(&self) -> String {
        row_tile::bucket(self.rows, self.cols, &[self.cols])
    }

    fn parts(&self, _operand: usize, most: usize) -> Option<Vec<Part>> {
        let part = |range: std::ops::Range<usize>| {
            Part::new(Self { rows: range.len(), ..*self }, &[(0, range.start * self.cols)])
        };
        Some(cuts(self.rows, self.cols, most)?.into_iter().map(part).collect())
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.cols;
        Cost { flops: 3 * len as u64, bytes_read: bytes(len), bytes_written: bytes(len) }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    #[test]
    fn scales_only_the_rows_above_the_bound() {
        let mut w = [3.0, 4.0, 0.0, 0.3, -0.4, 0.0, 0.0, 0.0, 0.0, -6.0, 0.0, 8.0];
        let kernel = MaxNorm { rows: 4, cols: 3, bound: 2.0 };
        kernel.run_f64(Args::new(vec![Arg::Write(&mut w)]), &StepState::default());
        let expected = [1.2, 1.6, 0.0, 0.3, -0.4, 0.0, 0.0, 0.0, 0.0, -1.2, 0.0, 1.6];
        for (w, e) in w.iter().zip(expected) {
            assert!((w - e).abs() < 1e-15, "{w} against {e}");
        }
    }
}
