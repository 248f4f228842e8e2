//! The variants of a matrix product.

use crate::{Caps, DType, Source};

/// Tile of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Entry point: `tiled` of `shaders/matmul.wgsl`, `vectors` of `matmul_vectors.wgsl`, `quads` or `scalars` of
    /// `matmul_subgroup.wgsl`, `cooperative` of `matmul_cooperative.wgsl`.
    pub entry: &'static str,
    /// Outputs of a thread, or of a subgroup where it is cooperative: its register tile.
    pub thread: [u32; 2],
    /// Threads, or subgroups, along rows and columns.
    pub group: [u32; 2],
    /// Depth of a slab.
    pub block_k: u32,
    /// What the factors are rounded to before they are multiplied.
    pub factors: DType,
    /// Parts into which the inner products are split, each summed by workgroups of its own; see `matmul/split.rs`.
    pub splits: u32,
}

impl Tile {
    /// What the others have in common.
    const PLAIN: Self = Self {
        entry: "tiled",
        thread: [1, 1],
        group: [1, 1],
        block_k: 1,
        factors: DType::F32,
        splits: 1,
    };
    /// 128 × 128 outputs by 256 threads: large products.
    pub const LARGE: Self =
        Self { entry: "tiled", thread: [8, 8], group: [16, 16], block_k: 8, ..Self::PLAIN };
    /// 64 × 64 outputs by 256 threads.
    pub const MEDIUM: Self =
        Self { entry: "tiled", thread: [4, 4], group: [16, 16], block_k: 16, ..Self::PLAIN };
    /// 32 × 32 outputs by 256 threads: products too small to fill a GPU otherwise.
    pub const SMALL: Self =
        Self { entry: "tiled", thread: [2, 2], group: [16, 16], block_k: 32, ..Self::PLAIN };
    /// As [`Tile::LARGE`], in vectors of four.
    pub const VECTORS_LARGE: Self =
        Self { entry: "vectors", thread: [8, 8], group: [16, 16], block_k: 16, ..Self::PLAIN };
    /// 64 × 128 outputs by 256 threads, in vectors of four.
    pub const VECTORS_WIDE: Self =
        Self { entry: "vectors", thread: [4, 8], group: [16, 16], block_k: 16, ..Self::PLAIN };
    /// 64 × 64 outputs by 256 threads, in vectors of four.
    pub const VECTORS_MEDIUM: Self =
        Self { entry: "vectors", thread: [4, 4], group: [16, 16], block_k: 16, ..Self::PLAIN };
    /// 64 × 64 outputs by 64 threads, in vectors of four.
    pub const VECTORS_FEW: Self =
        Self { entry: "vectors", thread: [8, 8], group: [8, 8], block_k: 16, ..Self::PLAIN };
    /// 32 × 32 outputs by 64 threads, in vectors of four.
    pub const VECTORS_SMALL: Self =
        Self { entry: "vectors", thread: [4, 4], group: [8, 8], block_k: 32, ..Self::PLAIN };
    /// 64 × 64 outputs by 64 threads: fewer threads at each barrier, for drivers that run on the processor
    /// and have other subgroups than [`Tile::QUADS`] needs.
    pub const SOFTWARE: Self =
        Self { entry: "tiled", thread: [8, 8], group: [8, 8], block_k: 16, ..Self::PLAIN };
    /// 16 × 32 outputs by one subgroup of eight, which loads four words at once.
    pub const QUADS: Self =
        Self { entry: "quads", thread: [16, 4], group: [1, 8], block_k: 4, ..Self::PLAIN };
    /// The same word by word, for any shape.
    pub const SCALARS: Self = Self { entry: "scalars", ..Self::QUADS };
    /// 128 × 128 outputs by eight subgroups that multiply in hardware.
    pub const COOPERATIVE_LARGE: Self =
        Self { entry: "cooperative", thread: [64, 32], group: [2, 4], block_k: 16, ..Self::PLAIN };
    /// 64 × 64 outputs by four of them.
    pub const COOPERATIVE_MEDIUM: Self =
        Self { thread: [32, 32], group: [2, 2], ..Self::COOPERATIVE_LARGE };
    /// 32 × 32 outputs by two of them.
    pub const COOPERATIVE_SMALL: Self =
        Self { thread: [16, 32], group: [2, 1], ..Self::COOPERATIVE_LARGE };
    /// As [`Tile::VECTORS_MEDIUM`], with inner products in four parts.
    pub const SPLIT_FEW: Self = Self { splits: 4, ..Self::VECTORS_MEDIUM };
    /// As [`Tile::VECTORS_LARGE`], with inner products in sixteen parts.
    pub const SPLIT_MANY: Self = Self { splits: 16, ..Self::VECTORS_LARGE };
    /// As [`Tile::COOPERATIVE_MEDIUM`], with inner products in eight parts.
    pub const SPLIT_COOPERATIVE: Self = Self { splits: 8, ..Self::COOPERATIVE_MEDIUM };
    /// Every variant for floats, for tests and tuning.
    pub const ALL: [Self; 17] = [
        Self::LARGE,
        Self::MEDIUM,
        Self::SMALL,
        Self::VECTORS_LARGE,
        Self::VECTORS_WIDE,
        Self::VECTORS_MEDIUM,
        Self::VECTORS_FEW,
        Self::VECTORS_SMALL,
        Self::SOFTWARE,
        Self::QUADS,
        Self::SCALARS,
        Self::COOPERATIVE_LARGE,
        Self::COOPERATIVE_MEDIUM,
        Self::COOPERATIVE_SMALL,
        Self::SPLIT_FEW,
        Self::SPLIT_MANY,
        Self::SPLIT_COOPERATIVE,
    ];

    /// The same with factors in f16, twice as many at once.
    pub(super) fn halved(self) -> Self {
        Self { factors: DType::F16, block_k: 2 * self.block_k, ..self }
    }

    /// Its name among the variants.
    pub fn name(&self) -> String {
        let Self { entry, thread, group, block_k, factors, splits } = self;
        let half = if *factors == DType::F16 { " in f16" } else { "" };
        let split = if *splits > 1 { format!(", k in {splits}") } else { String::new() };
        let ([rows, cols], [along_rows, along_cols]) = (thread, group);
        format!("{entry} {rows}x{cols} by {along_rows}x{along_cols}, {block_k}{half}{split}")
    }

    /// Whether subgroups multiply in hardware.
    pub fn is_cooperative(&self) -> bool {
        self.entry == "cooperative"
    }

    /// Whether it loads four neighbours at once.
    pub(super) fn needs_fours(&self) -> bool {
        matches!(self.entry, "quads" | "vectors" | "cooperative")
    }

    /// Whether the device has what it needs.
    pub(super) fn runs_on(&self, caps: &Caps) -> bool {
        let threads = self.group[0] * self.group[1];
        let has_room = |threads, side| {
            threads <= caps.max_workgroup_threads
                && self.workgroup_memory(side) <= caps.workgroup_memory
        };
        match self.entry {
            "quads" | "scalars" => caps.subgroup_lanes == Some(threads),
            "cooperative" => match (caps.subgroup_lanes, self.side(caps)) {
                (Some(lanes), Some(side)) => has_room(threads * lanes, side),
                _ => false,
            },
            _ => has_room(threads, 0),
        }
    }

    /// Rows and columns of a workgroup's outputs.
    fn block(&self) -> [u32; 2] {
        [0, 1].map(|i| self.thread[i] * self.group[i])
    }

    pub(super) fn blocks(&self, m: usize, n: usize) -> [usize; 2] {
        let [rows, cols] = self.block();
        [m.div_ceil(rows as usize), n.div_ceil(cols as usize)]
    }

    /// Side of the matrices that a subgroup of the device multiplies at once.
    fn side(&self, caps: &Caps) -> Option<u32> {
        match self.factors {
            DType::F16 => caps.cooperative_f16,
            _ => caps.cooperative_f32,
        }
    }

    /// What is compiled of it, for a B that is stored so.
    pub(super) fn source(&self, b_type: DType, caps: &Caps) -> Source {
        let block = vec![
            ("THREAD_M", self.thread[0]),
            ("THREAD_N", self.thread[1]),
            ("GROUP_M", self.group[0]),
            ("GROUP_N", self.group[1]),
            ("BLOCK_K", self.block_k),
        ];
        let mut source = match self.entry {
            "tiled" => Source { consts: block, ..Source::of("matmul") },
            "vectors" => Source { consts: block, ..Source::of("matmul_vectors") },
            "cooperative" => {
                let tiles = match (self.side(caps), self.factors) {
                    (Some(16), DType::F16) => "common/tiles_16_f16",
                    (_, DType::F16) => "common/tiles_8_f16",
                    (Some(16), _) => "common/tiles_16_f32",
                    _ => "common/tiles_8_f32",
                };
                let lanes = ("LANES", caps.subgroup_lanes.unwrap_or(1));
                Source {
                    imports: vec![("common/tiles_8_f32", tiles)],
                    consts: block.into_iter().chain([lanes]).collect(),
                    ..Source::of("matmul_cooperative")
                }
            }
            _ => {
                let consts = vec![("THREAD_M", self.thread[0])];
                Source { consts, ..Source::of("matmul_subgroup") }
            }
        };
        match b_type {
            DType::F16 => source.imports.push(("common/b_f32", "common/b_f16")),
            DType::I8 => source.imports.push(("common/b_f32", "common/b_i8")),
            DType::Blocks(blocks) => {
                source.imports.push(("common/b_f32", "common/b_blocks"));
                source.imports.push(("common/blocks_q8_0", blocks.reader()));
            }
            DType::F32 | DType::I32 => {}
        }
        source
    }

    /// Bytes of workgroup memory, as its shader declares it.
    fn workgroup_memory(&self, side: u32) -> u32 {
        let ([rows, cols], depth) = (self.block(), self.block_k);
        match self.entry {
            "quads" | "scalars" => 0,
            "vectors" => 4 * depth * (rows + cols),
            "tiled" => 4 * depth * (rows + cols + 2),
            _ => {
                let slab = |len: u32| (len * (depth + 8)).max(depth * (len + 8));
                let factors = self.factors.bytes_of(1) as u32 * (slab(rows) + slab(cols));
                factors + 4 * side * side * self.group[0] * self.group[1]
            }
        }
    }
}
