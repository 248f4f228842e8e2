//! Layer normalisation over the rows of a matrix, and its gradients. The formulas stand in
//! `shaders/layer_norm.wgsl`.

use rayon::prelude::*;

use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Real, StepState, Variant, bytes, row, twin,
};

/// Rows that a workgroup of the backward pass takes at a time.
const TILE_ROWS: usize = 16;
/// Threads of each of them.
const TILE_LANES: usize = 16;
/// Most blocks of rows that sums of their own are kept for.
const MAX_BLOCKS: usize = 256;
/// Sums of a workgroup of `finish`.
const FINISH_COLUMNS: usize = 32;
/// Most numbers of a row that a thread holds in registers.
const MAX_HELD: usize = 64;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;

/// y = (x - mean) / √(variance + eps) · weight + bias over each row, the variance being the biased one.
///
/// Operands: `x` [rows, cols], `weight` \[cols], `bias` \[cols], `y` [rows, cols], `stats` [rows, 2]: mean and
/// 1 / √(variance + eps) of each row.
/// Ba, Kiros and Hinton, "Layer Normalization", 2016; as `torch.nn.LayerNorm`. Not `centred`, the mean is taken to be 0:
/// Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Rows, at least 1.
    pub rows: usize,
    /// Elements of a row, at least 1.
    pub cols: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether the mean is subtracted.
    pub centred: bool,
}

/// dx, and for each block of rows the sums that dweight and dbias are made of.
///
/// Operands: `x` [rows, cols], `weight` \[cols], `stats` [rows, 2] of the forward pass, `dy` [rows, cols],
/// `dx` [rows, cols], `block_sums` [[`Self::blocks`], 2, cols]: Σ dy · (y - bias) / weight, and Σ dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerNormBackward {
    /// Rows, at least 1.
    pub rows: usize,
    /// Elements of a row, at least 1.
    pub cols: usize,
    /// Whether the mean was subtracted.
    pub centred: bool,
}

/// dweight and dbias from the sums of [`LayerNormBackward`].
///
/// Operands: `block_sums` [blocks, 2, cols], `dweight` \[cols], `dbias` \[cols].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerNormFinish {
    /// Blocks of rows.
    pub blocks: usize,
    /// Elements of a row.
    pub cols: usize,
}

/// The pipeline constant that says that no mean is subtracted.
fn centring(centred: bool) -> Option<(&'static str, f64)> {
    (!centred).then_some(("CENTRED", 0.0))
}

/// What tells a bucket without a mean from one with it.
fn kind(centred: bool) -> &'static str {
    if centred { "" } else { " by root mean square" }
}

impl LayerNorm {
    /// Of rows whose mean is subtracted.
    pub fn new(rows: usize, cols: usize, eps: f32) -> Self {
        Self { rows, cols, eps, centred: true }
    }

    fn tile(&self, caps: &Caps) -> RowTile {
        RowTile::new(self.rows, self.cols, caps)
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let (source, mut overrides) = tile.holding("layer_norm", self.cols, MAX_HELD, caps);
        overrides.extend(centring(self.centred));
        let [rows, words] = [self.rows, tile.words(self.cols)].map(|n| n as u32);
        vec![Launch {
            source,
            entry: "forward",
            overrides,
            dims: vec![rows, words, 0, self.eps.to_bits(), 0],
            bindings: [3, 4, 0, 1, 2].map(Some).to_vec(),
            workgroups: tile.grid(self.rows, caps),
        }]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (x, weight, bias) = (args.read(0), args.read(1), args.read(2));
        let rows = TASK_LEN.div_ceil(self.cols);
        let task = rows * self.cols;
        let tasks = args.write(3).par_chunks_mut(task).zip(args.write(4).par_chunks_mut(2 * rows));
        tasks.zip(x.par_chunks(task)).for_each(|((y, stats), x)| {
            row::vectorised(
                #[inline(always)]
                || {
                    let rows = y.chunks_exact_mut(self.cols).zip(stats.as_chunks_mut().0);
                    for ((y, stats), x) in rows.zip(x.chunks_exact(self.cols)) {
                        *stats = self.row(x, weight, bias, y);
                    }
                },
            );
        });
    }

    #[inline(always)]
    fn row<F: Real>(&self, x: &[F], weight: &[F], bias: &[F], y: &mut [F]) -> [F; 2] {
        let cols = self.cols as f64;
        let mean = if self.centred {
            let [sum] = row::sums_of(
                x,
                x,
                #[inline(always)]
                |x, _| [x],
            );
            F::of64(sum / cols)
        } else {
            F::zero()
        };
        let [sum, squares] = row::sums_of(
            x,
            x,
            #[inline(always)]
            |x, _| [x - mean, (x - mean) * (x - mean)],
        );
        // What the mean was rounded by.
        let offset = if self.centred { sum / cols } else { 0.0 };
        let variance = squares / cols - offset * offset;
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let inverse_std = F::of64(1.0 / (variance + f64::from(self.eps)).sqrt());
        let offset = F::of64(offset);
        for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean - offset) * inverse_std * weight + bias;
        }
        [mean + offset, inverse_std]
    }
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.cols;
        vec![
            Operand::read("x", len),
            Operand::read("weight", self.cols),
            Operand::read("bias", self.cols),
            Operand::write("y", len),
            Operand::write("stats", 2 * self.rows),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        self.tile(caps).variants(self.cols, caps, |tile| self.launches_with(tile, caps))
    }

    fn bucket(&self) -> String {
        format!(
            "forward{} {}",
            kind(self.centred),
            row_tile::bucket(self.rows, self.cols, &[self.cols])
        )
    }

    fn halves(&self) -> Vec<usize> {
        vec![0, 3]
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.cols;
        Cost {
            flops: 10 * len as u64,
            bytes_read: bytes(len + 2 * self.cols),
            bytes_written: bytes(len + 2 * self.rows),
        }
    }

    twin!();
}

impl LayerNormBackward {
    /// Of rows whose mean was subtracted.
    pub fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols, centred: true }
    }

    fn tile(&self, caps: &Caps) -> RowTile {
        // A driver on the CPU pays for barriers: there a thread takes a row.
        let lanes = if caps.software { 1 } else { TILE_LANES };
        RowTile { rows: TILE_ROWS, ..RowTile::of_lanes(lanes) }.for_rows_apart(&[self.cols])
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        vec![Launch {
            source: tile.source("layer_norm"),
            entry: "backward",
            overrides: tile.overrides().into_iter().chain(centring(self.centred)).collect(),
            dims: [self.rows, tile.words(self.cols), self.block_rows(), 0, 0]
                .map(|n| n as u32)
                .to_vec(),
            bindings: [4, 5, 0, 1, 3, 2].map(Some).to_vec(),
            workgroups: caps.grid(self.blocks()),
        }]
    }

    /// Blocks of rows. Their sums are an eighth of `x` at most, unless it has few rows.
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block_rows())
    }

    fn block_rows(&self) -> usize {
        self.rows.div_ceil(MAX_BLOCKS).next_multiple_of(TILE_ROWS)
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (x, weight, stats, dy) = (args.read(0), args.read(1), args.read(2), args.read(3));
        let (dx, block_sums) = (args.write(4), args.write(5));
        let rows = self.block_rows();
        let task = rows * self.cols;
        let blocks = dx.par_chunks_mut(task).zip(block_sums.par_chunks_mut(2 * self.cols));
        let blocks = blocks.zip(x.par_chunks(task)).zip(dy.par_chunks(task));
        blocks.zip(stats.par_chunks(2 * rows)).for_each(|((((dx, sums), x), dy), stats)| {
            sums.fill(F::zero());
            row::vectorised(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(self.cols).zip(x.chunks_exact(self.cols));
                    let rows = rows.zip(dy.chunks_exact(self.cols)).zip(stats.as_chunks().0);
                    for (((dx, x), dy), stats) in rows {
                        self.row(x, weight, stats, dy, dx, sums);
                    }
                },
            );
        });
    }

    /// One row's dx, and its part of the block's sums.
    #[inline(always)]
    fn row<F: Real>(
        &self,
        x: &[F],
        weight: &[F],
        &[mean, inverse_std]: &[F; 2],
        dy: &[F],
        dx: &mut [F],
        sums: &mut [F],
    ) {
        let cols = self.cols as f64;
        for ((g, &dy), &weight) in dx.iter_mut().zip(dy).zip(weight) {
            *g = dy * weight;
        }
        let means = row::sums_of(
            dx,
            x,
            #[inline(always)]
            |g, x| {
                let h = (x - mean) * inverse_std;
                [h, g, g * h]
            },
        );
        let [mut offset, mut mean_g, mean_gh] = means.map(|sum| sum / cols);
        if !self.centred {
            (offset, mean_g) = (0.0, 0.0);
        }
        let slope = F::of64(mean_gh - mean_g * offset);
        let (offset, mean_g) = (F::of64(offset), F::of64(mean_g));
        let (dweight, dbias) = sums.split_at_mut(self.cols);
        let columns = dx.iter_mut().zip(x).zip(dy).zip(dweight).zip(dbias);
        for ((((dx, &x), &dy), dweight), dbias) in columns {
            let h = (x - mean) * inverse_std - offset;
            *dx = (*dx - mean_g - h * slope) * inverse_std;
            *dweight += dy * h;
            *dbias += dy;
        }
    }
}

impl Kernel for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.cols;
        vec![
            Operand::read("x", len),
            Operand::read("weight", self.cols),
            Operand::read("stats", 2 * self.rows),
            Operand::read("dy", len),
            Operand::write("dx", len),
            Operand::write("block_sums", 2 * self.blocks() * self.cols),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let default = self.tile(caps);
        let fits = |lanes: &u32| TILE_ROWS as u32 * lanes <= caps.max_workgroup_threads;
        let subgroup = caps.subgroup_lanes.filter(fits).map(|lanes| lanes as usize);
        let by_subgroup = subgroup.map(|lanes| RowTile { lanes, subgroup, ..default });
        let single = (default.word > 1).then_some(RowTile { word: 1, ..default });
        let tiles = [Some(default), by_subgroup, single].into_iter().flatten();
        tiles.map(|tile| tile.variant(self.launches_with(tile, caps))).collect()
    }

    fn bucket(&self) -> String {
        format!(
            "backward{} {}",
            kind(self.centred),
            row_tile::bucket(self.rows, self.cols, &[self.cols])
        )
    }

    fn halves(&self) -> Vec<usize> {
        vec![0, 3, 4]
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.cols;
        Cost {
            flops: 16 * len as u64,
            bytes_read: bytes(2 * len + self.cols + 2 * self.rows),
            bytes_written: bytes(len + 2 * self.blocks() * self.cols),
        }
    }

    twin!();
}

impl LayerNormFinish {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let mut totals = vec![0.0; 2 * self.cols];
        for sums in args.read(0).chunks_exact(2 * self.cols) {
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.f64());
        }
        let (dweight, dbias) = totals.split_at(self.cols);
        for (operand, totals) in [(1, dweight), (2, dbias)] {
            args.write(operand).iter_mut().zip(totals).for_each(|(out, &v)| *out = F::of64(v));
        }
    }
}

impl Kernel for LayerNormFinish {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            Operand::read("block_sums", 2 * self.blocks * self.cols),
            Operand::write("dweight", self.cols),
            Operand::write("dbias", self.cols),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let tile = RowTile::of_lanes(FINISH_COLUMNS).for_rows_apart(&[self.cols]);
        let words = tile.words(self.cols);
        vec![Launch {
            source: tile.source("layer_norm"),
            entry: "finish",
            overrides: Vec::new(),
            dims: [0, words, 0, 0, self.blocks].map(|n| n as u32).to_vec(),
            bindings: [1, 2, 0].map(Some).to_vec(),
            workgroups: caps.grid((2 * words).div_ceil(FINISH_COLUMNS)),
        }]
    }

    fn cost(&self) -> Cost {
        let sums = 2 * self.blocks * self.cols;
        Cost { flops: sums as u64, bytes_read: bytes(sums), bytes_written: bytes(2 * self.cols) }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    const SHAPES: [[usize; 2]; 6] = [[1, 1], [5, 3], [3, 33], [300, 40], [5000, 3], [2, 40_000]];
    const EPS: f32 = 1e-5;

    fn numbers(len: usize, stream: u32) -> Vec<f64> {
        let unit = |i| f64::from(random::unit(random::word(6, stream, 0, i)));
        (0..len as u32).map(|i| 4.0 * unit(i) - 2.0).collect()
    }

    /// Shapes with the mean subtracted and without.
    fn both(shapes: [[usize; 2]; 6]) -> impl Iterator<Item = (bool, [usize; 2])> {
        shapes.into_iter().flat_map(|shape| [true, false].map(|centred| (centred, shape)))
    }

    /// y and stats.
    fn forward<F: Real>(centred: bool, x: &[F], weight: &[F], bias: &[F]) -> [Vec<F>; 2] {
        let (rows, cols) = (x.len() / weight.len(), weight.len());
        let kernel = LayerNorm { rows, cols, eps: EPS, centred };
        let (mut y, mut stats) = (vec![F::nan(); x.len()], vec![F::nan(); 2 * kernel.rows]);
        let args = vec![
            Arg::Read(x),
            Arg::Read(weight),
            Arg::Read(bias),
            Arg::Write(&mut y),
            Arg::Write(&mut stats),
        ];
        kernel.run(Args::new(args), &StepState::default());
        [y, stats]
    }

    /// dx, dweight and dbias.
    fn backward<F: Real>(
        centred: bool,
        x: &[F],
        weight: &[F],
        stats: &[F],
        dy: &[F],
    ) -> [Vec<F>; 3] {
        let cols = weight.len();
        let kernel = LayerNormBackward { rows: x.len() / cols, cols, centred };
        let blocks = kernel.blocks();
        let (mut dx, mut sums) = (vec![F::nan(); x.len()], vec![F::nan(); 2 * blocks * cols]);
        let args = vec![
            Arg::Read(x),
            Arg::Read(weight),
            Arg::Read(stats),
            Arg::Read(dy),
            Arg::Write(&mut dx),
            Arg::Write(&mut sums),
        ];
        kernel.run(Args::new(args), &StepState::default());
        let (mut dweight, mut dbias) = (vec![F::nan(); cols], vec![F::nan(); cols]);
        let args = vec![Arg::Read(&sums), Arg::Write(&mut dweight), Arg::Write(&mut dbias)];
        LayerNormFinish { blocks, cols }.run(Args::new(args), &StepState::default());
        [dx, dweight, dbias]
    }

    /// (x - mean) / std of one row, mean and std, by the definition.
    fn normalised(centred: bool, x: &[f64]) -> (Vec<f64>, f64, f64) {
        let cols = x.len() as f64;
        let mean = if centred { x.iter().sum::<f64>() / cols } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols;
        let std = (variance + f64::from(EPS)).sqrt();
        (x.iter().map(|x| (x - mean) / std).collect(), mean, std)
    }

    fn assert_near(found: &[f64], expected: &[f64], limit: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= limit, "{found} against {expected}");
        }
    }

    #[test]
    fn forward_agrees_with_the_definition() {
        for (centred, [rows, cols]) in both(SHAPES) {
            let (x, weight, bias) = (numbers(rows * cols, 1), numbers(cols, 2), numbers(cols, 3));
            let [y, stats] = forward(centred, &x, &weight, &bias);
            for ((x, y), stats) in x.chunks(cols).zip(y.chunks(cols)).zip(stats.chunks(2)) {
                let (h, mean, std) = normalised(centred, x);
                let affine = h.iter().zip(&weight).zip(&bias).map(|((h, w), b)| h * w + b);
                assert_near(y, &affine.collect::<Vec<_>>(), 1e-12);
                assert_near(stats, &[mean, 1.0 / std], 1e-12);
            }
        }
    }

    #[test]
    fn backward_agrees_with_the_definition() {
        for (centred, [rows, cols]) in both(SHAPES) {
            let (x, weight, dy) =
                (numbers(rows * cols, 1), numbers(cols, 2), numbers(rows * cols, 4));
            let [_, stats] = forward(centred, &x, &weight, &weight);
            let [dx, dweight, dbias] = backward(centred, &x, &weight, &stats, &dy);
            let mut expected = [vec![0.0; cols], vec![0.0; cols]];
            for ((x, dy), dx) in x.chunks(cols).zip(dy.chunks(cols)).zip(dx.chunks(cols)) {
                let (h, _, std) = normalised(centred, x);
                let g: Vec<f64> = dy.iter().zip(&weight).map(|(dy, w)| dy * w).collect();
                let mean = if centred { g.iter().sum::<f64>() / cols as f64 } else { 0.0 };
                let slope = g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / cols as f64;
                let slopes = g.iter().zip(&h).map(|(g, h)| (g - mean - h * slope) / std);
                assert_near(dx, &slopes.collect::<Vec<_>>(), 1e-10);
                for c in 0..cols {
                    expected[0][c] += dy[c] * h[c];
                    expected[1][c] += dy[c];
                }
            }
            assert_near(&dweight, &expected[0], 1e-10);
            assert_near(&dbias, &expected[1], 1e-10);
        }
    }

    /// Far from zero, f32 agrees with f64 as well as near it, though the mean kept in `stats` is rounded.
    #[test]
    fn f32_is_stable_far_from_zero() {
        let [rows, cols] = [40, 300];
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let x = narrow(&numbers(rows * cols, 1).iter().map(|x| x + 1e4).collect::<Vec<_>>());
        let [weight, bias, dy] =
            [(cols, 2), (cols, 3), (rows * cols, 4)].map(|(len, salt)| narrow(&numbers(len, salt)));
        let widen = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let [y, stats] = forward(true, &x, &weight, &bias);
        let [wide_x, wide_weight] = [&x, &weight].map(|values| widen(values));
        let [exact, exact_stats] = forward(true, &wide_x, &wide_weight, &widen(&bias));
        assert_near(&widen(&y), &exact, 2e-6);
        let found = backward(true, &x, &weight, &stats, &dy);
        let exact = backward(true, &wide_x, &wide_weight, &exact_stats, &widen(&dy));
        for (found, exact) in found.iter().zip(&exact) {
            assert_near(&widen(found), exact, 2e-5);
        }
    }

    #[test]
    fn a_constant_row_is_its_bias() {
        for value in [0.0, 1.0, 1e8, -3e7] {
            let [y, _] = forward(true, &[value as f32; 77], &[2.0; 77], &[0.5; 77]);
            assert!(y.iter().all(|&y| y == 0.5), "{value}: {y:?}");
        }
    }

    #[test]
    fn nan_stays_in_its_row() {
        let [y, _] = forward(true, &[1.0, f64::NAN, 2.0, 3.0], &[1.0; 2], &[0.0; 2]);
        assert!(y[..2].iter().all(|y| y.is_nan()) && y[2..].iter().all(|y| y.is_finite()));
    }

    #[test]
    fn block_sums_are_small_beside_x() {
        let blocks = [1, 16, 17, 2048, 4096, 4097, 1_000_000].map(|rows| {
            let kernel = LayerNormBackward::new(rows, 1);
            assert!(kernel.blocks() * kernel.block_rows() >= rows);
            kernel.blocks()
        });
        assert_eq!(blocks, [1, 1, 2, 128, 256, 129, 256]);
    }
}
