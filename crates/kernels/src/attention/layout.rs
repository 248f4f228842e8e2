//! How threads share the rows of a head, and which ways there are to choose from.

use crate::{Caps, Source};

/// Threads of a wave of most GPUs, or of two.
const WAVE: usize = 64;

/// How threads share the rows of a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    /// For drivers on the processor: a thread takes so many rows.
    Direct { own: usize },
    /// For GPUs: so many threads hold so many rows, and add up by subgroups or by workgroup memory.
    Tiled { lanes: usize, own: usize, by_subgroups: bool },
}

/// The same for one pass, in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) entry: &'static str,
    /// Threads that share a row.
    pub(super) lanes: usize,
    /// Fours of columns that a thread holds.
    pub(super) quads: usize,
    /// Rows of a workgroup.
    pub(super) rows: usize,
    /// Rows of a thread.
    pub(super) own: usize,
    /// Rows of the other side in workgroup memory.
    pub(super) depth: usize,
    pub(super) by_subgroups: bool,
}

impl Layout {
    pub(super) fn name(self) -> String {
        match self {
            Self::Direct { own } => format!("{own} rows a thread"),
            Self::Tiled { lanes, own, by_subgroups } => {
                let by = if by_subgroups { " by subgroups" } else { "" };
                let threads = if lanes == 1 { "thread" } else { "threads" };
                match own {
                    1 => format!("{lanes} {threads} a row{by}"),
                    _ => format!("{lanes} {threads} for {own} rows{by}"),
                }
            }
        }
    }

    /// The geometry for so many rows. Threads hand each other `products` sums for each pair of rows.
    pub(super) fn tile(self, [length, head_dim]: [usize; 2], products: usize, caps: &Caps) -> Tile {
        const DIRECT_THREADS: usize = 8;
        const TILED_THREADS: usize = 128;
        const MAX_THREAD_ROWS: usize = 64;
        // With more, compilers of GPUs no longer unroll the loops over them, and a thread's sums leave its registers.
        const MAX_DEPTH: usize = 8;
        let fours = head_dim.div_ceil(4);
        match self {
            Self::Direct { own } => Tile {
                entry: "direct",
                lanes: 1,
                quads: fours,
                rows: DIRECT_THREADS * own,
                own,
                depth: 1,
                by_subgroups: false,
            },
            Self::Tiled { lanes, own, by_subgroups } => {
                let quads = fours.div_ceil(lanes);
                let threads = TILED_THREADS.min(caps.max_workgroup_threads as usize);
                // A wave at least, as all threads load what the rows see.
                let least = (WAVE / lanes).min(MAX_THREAD_ROWS);
                let most = length.div_ceil(own).next_power_of_two().clamp(least, MAX_THREAD_ROWS);
                let rows = (threads / lanes).clamp(1, most) * own;
                let handed = if by_subgroups || lanes == 1 { 0 } else { products * rows * lanes };
                let bytes_a_row = 4 * (2 * 4 * lanes * quads + handed);
                let fitting = (caps.workgroup_memory as usize / bytes_a_row).clamp(1, MAX_DEPTH);
                let depth = 1 << fitting.ilog2();
                Tile { entry: "tiled", lanes, quads, rows, own, depth, by_subgroups }
            }
        }
    }

    /// The layouts to choose from for rows of this length and heads of so many columns, the default first.
    pub(super) fn choices(
        [length, head_dim]: [usize; 2],
        backward: bool,
        caps: &Caps,
    ) -> Vec<Self> {
        let fours = head_dim.div_ceil(4);
        if caps.software {
            // Fewer rows a thread where they would be more than there are.
            let most = if backward { 8 } else { 16 };
            let owns = if fours <= most && length > 16 { [4, 2] } else { [2, 4] };
            return owns.map(|own| Self::Direct { own }).to_vec();
        }
        // By default a thread holds few enough fours of columns that compilers of GPUs keep them, and what is made of them, in
        // registers, and leave room for other waves (tests/shader-stats.sh). A backward pass by one thread a row has no
        // barrier between its two loops, which compilers then mix beyond all registers.
        const FOURS: usize = 4;
        let fewest = if backward { fours.min(2) } else { 1 };
        let usual = fours.div_ceil(FOURS).next_power_of_two().max(fewest);
        // What is loaded from workgroup memory serves all rows of a thread; but threads that have no row wait.
        let fills_a_wave = length * usual >= 2 * WAVE;
        let others = [
            (usual / 2, 1),
            (usual, 1),
            (2 * usual, 1),
            (usual / 2, 2),
            (usual, 2),
            (2 * usual, 2),
        ];
        let default = (usual, if backward || !fills_a_wave { 1 } else { 2 });
        let subgroup = caps.subgroup_lanes.map_or(0, |lanes| lanes as usize);
        let mut layouts = Vec::new();
        for (lanes, own) in
            [default].into_iter().chain(others.into_iter().filter(|one| *one != default))
        {
            // A thread that held two rows of many columns would not have the registers, but for the simplest pass.
            let simplest = !backward && fours.is_multiple_of(lanes);
            let fits = lanes >= usual || own == 1 || simplest;
            if fits && (fewest..=fours).contains(&lanes) {
                layouts.push(Self::Tiled { lanes, own, by_subgroups: false });
                if lanes > 1 && lanes <= subgroup {
                    layouts.push(Self::Tiled { lanes, own, by_subgroups: true });
                }
            }
        }
        layouts
    }
}

impl Tile {
    /// With `mask`, a file and what stands in for it.
    pub(super) fn source(
        &self,
        shader: &'static str,
        head_dim: usize,
        mask: Option<(&'static str, &'static str)>,
    ) -> Source {
        let mut imports: Vec<_> = mask.into_iter().collect();
        if 4 * self.lanes * self.quads == head_dim {
            imports.push(("common/attention_words", "common/attention_fours"));
        }
        if self.by_subgroups {
            imports.push(("common/attention_lanes", "common/attention_lanes_subgroup"));
        }
        let Self { lanes, quads, rows, own, depth, .. } = *self;
        let consts =
            [("LANES", lanes), ("QUADS", quads), ("ROWS", rows), ("OWN", own), ("DEPTH", depth)];
        let consts = consts.map(|(name, value)| (name, value as u32)).to_vec();
        Source { imports, consts, ..Source::of(shader) }
    }
}
