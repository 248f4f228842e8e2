//! Products whose inner products are split: a weight gradient has few outputs, each a sum over all rows of the batch, too
//! few to fill a GPU. Workgroups of their own sum each part, into scratch memory, and a second launch adds the parts in
//! their order.

use super::{Matmul, Tile};
use crate::chain::{Chain, MAX_OPERANDS};
use crate::{Caps, Kernel, Launch, Source};

/// Least length of a part.
const LEAST: usize = 64;
/// Most workgroups of a product that has too few.
const FEW_BLOCKS: usize = 128;
/// Most elements of all parts.
const MOST_SCRATCH: usize = 4 << 20;
/// Threads that add parts in a workgroup.
const THREADS: usize = 256;

impl Matmul {
    /// Whether a tile's parts are worth trying: A and B lie k by k, as in a weight gradient, so that a part of either is
    /// some of its rows.
    pub(super) fn splits(&self, tile: &Tile) -> bool {
        let parts = tile.splits as usize;
        let by_k = self.trans_a && !self.trans_b && self.batch == 1 && self.lda.is_none();
        let [rows, cols] = tile.blocks(self.m, self.n);
        by_k && self.k.is_multiple_of(4 * parts)
            && self.k / parts >= LEAST
            && rows * cols <= FEW_BLOCKS
            && parts * self.m * self.n <= MOST_SCRATCH
    }

    /// Elements of the parts of whichever variant has most.
    pub(super) fn split_scratch(&self) -> usize {
        let parts = Tile::ALL.iter().filter(|tile| tile.splits > 1 && self.splits(tile));
        parts.map(|tile| tile.splits as usize * self.m * self.n).max().unwrap_or(0)
    }

    /// The parts are a batch of products of their own.
    pub(super) fn split(&self, tile: &Tile, caps: &Caps) -> Vec<Launch> {
        let parts = tile.splits as usize;
        let part = Self {
            k: self.k / parts,
            batch: parts,
            patches: self.patches.map(|patches| patches.in_parts()),
            shared_a: false,
            shared_b: false,
            ldc: None,
            accumulate: false,
            chain: Chain::default(),
            extent: [1, parts as u32, self.m as u32, self.n as u32],
            ..self.clone()
        };
        let mut launches = part.launches_with(&Tile { splits: 1, ..*tile }, caps);
        let (out, scratch) = (part.operands().len() - 1, self.operands().len());
        for binding in launches.iter_mut().flat_map(|launch| &mut launch.bindings) {
            *binding = binding.map(|operand| if operand == out { scratch } else { operand });
        }
        launches.push(self.sum(parts, caps));
        launches
    }

    fn sum(&self, parts: usize, caps: &Caps) -> Launch {
        let used = self.chain.operands.len();
        let mut dims = self.chain.dims(self.extent);
        dims.extend([self.m, self.n, parts, self.out_row_len()].map(|word| word as u32));
        let mut bindings = vec![Some(self.operands().len())];
        bindings.extend((0..MAX_OPERANDS).map(|i| (i < used).then_some(2 + i)));
        bindings.push(Some(2 + used));
        Launch {
            source: Source::of("matmul_sum"),
            entry: "sum",
            overrides: self.epilogue(),
            dims,
            bindings,
            workgroups: caps.grid((self.m * self.n).div_ceil(THREADS)),
        }
    }
}
