//! Matrix product with a fused epilogue: out = chain(A · B), batched, either operand transposed.

mod parts;
mod patches;
mod split;
mod tile;
mod twin;
mod vector;

use crate::chain::{Chain, Coord, MAX_OPERANDS, OPERAND_NAMES};
use crate::patches::Patches;
use crate::{Caps, Cost, DType, Kernel, Launch, Operand, Part, Source, Variant, bytes, twin};

pub use tile::Tile;
pub(crate) use twin::Out;

/// A launch above this many operations is split by rows: 2e11 take a slow GPU (0.2 TFLOP/s) one second,
/// half of what Windows grants before it resets the driver.
pub(crate) const MAX_FLOPS_A_LAUNCH: u64 = 200_000_000_000;
/// The override by which a product stores its sums before it applies its chain.
pub(crate) const STORED_FIRST: &str = "STORED_FIRST";

/// out[b, i, j] = chain(Σ_k A\[b](i, k) · B\[b](k, j)), out contiguous [batch, m, n]; with `accumulate`, chain(out + Σ …).
#[derive(Clone, Debug)]
pub struct Matmul {
    /// Rows of out.
    pub m: usize,
    /// Columns of out.
    pub n: usize,
    /// Length of the inner products.
    pub k: usize,
    /// Number of products.
    pub batch: usize,
    /// A is stored [k, m] instead of [m, k].
    pub trans_a: bool,
    /// B is stored [n, k] instead of [k, n].
    pub trans_b: bool,
    /// Where A is no matrix in memory but patches of images; `None` otherwise.
    pub patches: Option<Patches>,
    /// One A for the whole batch.
    pub shared_a: bool,
    /// One B for the whole batch.
    pub shared_b: bool,
    /// Elements from one stored row of A to the next, where A is some columns of a larger matrix; of no batch.
    pub lda: Option<usize>,
    /// The same of `out`, whose other columns stay as they are.
    pub ldc: Option<usize>,
    /// What B is stored in: f32, f16, bytes or quantised blocks, of which its rows are whole ones; all arithmetic is in f32.
    pub b_type: DType,
    /// Whether the product is added onto `out`: sums over several calls.
    pub accumulate: bool,
    /// Applied to each element before it is stored.
    pub chain: Chain,
    /// The shape that `chain` sees: its product is batch · m · n, its last extent n.
    pub extent: Coord,
}

impl Matmul {
    /// A plain product of one pair of matrices, nothing fused.
    pub fn new(m: usize, n: usize, k: usize, trans_a: bool, trans_b: bool) -> Self {
        Self {
            m,
            n,
            k,
            batch: 1,
            trans_a,
            trans_b,
            patches: None,
            shared_a: false,
            shared_b: false,
            lda: None,
            ldc: None,
            b_type: DType::F32,
            accumulate: false,
            chain: Chain::default(),
            extent: [1, 1, m as u32, n as u32],
        }
    }

    /// Elements from one stored row of A to the next.
    fn a_row_len(&self) -> usize {
        self.lda.unwrap_or(if self.trans_a { self.m } else { self.k })
    }

    /// Elements from one row of out to the next.
    fn out_row_len(&self) -> usize {
        self.ldc.unwrap_or(self.n)
    }

    /// Elements that A spans, and those that out does.
    fn spans(&self) -> [usize; 2] {
        let [rows, cols] = if self.trans_a { [self.k, self.m] } else { [self.m, self.k] };
        let a = if self.shared_a { 1 } else { self.batch } * rows * cols;
        let span = |row_len: usize, rows: usize, cols| rows.saturating_sub(1) * row_len + cols;
        let a = self.patches.map_or(a, |patches| patches.len());
        [
            self.lda.map_or(a, |lda| span(lda, rows, cols)),
            self.ldc.map_or(self.batch * self.m * self.n, |ldc| span(ldc, self.m, self.n)),
        ]
    }

    /// Row, column and batch strides of A(i, k), or what stands for them where A is patches.
    fn a_strides(&self) -> [usize; 3] {
        if let Some(patches) = &self.patches {
            return patches.strides(self.k);
        }
        let [row, col] = if self.trans_a { [1, self.a_row_len()] } else { [self.a_row_len(), 1] };
        [row, col, if self.shared_a { 0 } else { self.m * self.k }]
    }

    /// Row, column and batch strides of B(k, j).
    fn b_strides(&self) -> [usize; 3] {
        let [row, col] = if self.trans_b { [1, self.k] } else { [self.n, 1] };
        [row, col, if self.shared_b { 0 } else { self.k * self.n }]
    }

    /// Whether four neighbours of an operand are one aligned vector, in k and along its contiguous direction.
    fn in_fours(&self) -> bool {
        self.k.is_multiple_of(4)
            && self.lda.is_none_or(|lda| lda.is_multiple_of(4))
            && self.patches.is_none_or(|patches| patches.in_fours())
            && (!self.trans_a || self.m.is_multiple_of(4))
            && (self.trans_b || self.n.is_multiple_of(4))
    }

    /// Whether a variant can run this product on the device.
    pub fn fits(&self, tile: &Tile, caps: &Caps) -> bool {
        let in_fours = self.in_fours() || !tile.needs_fours();
        in_fours && tile.runs_on(caps) && (tile.splits == 1 || self.splits(tile))
    }

    /// The default variant: the largest tile that still gives a GPU enough workgroups, in vectors where it can be.
    pub fn default_tile(&self, caps: &Caps) -> Tile {
        let preferred: &[(Tile, usize)] = if caps.software {
            &[(Tile::QUADS, 0), (Tile::SCALARS, 0), (Tile::SOFTWARE, 0)]
        } else {
            &[
                (Tile::VECTORS_LARGE, 128),
                (Tile::LARGE, 128),
                (Tile::VECTORS_MEDIUM, 64),
                (Tile::MEDIUM, 64),
                (Tile::VECTORS_SMALL, 0),
                (Tile::SMALL, 0),
            ]
        };
        let enough = preferred.iter().find(|(tile, least)| {
            let [rows, cols] = tile.blocks(self.m, self.n);
            self.fits(tile, caps) && rows * cols * self.batch >= *least
        });
        enough.map_or(Tile::SMALL, |(tile, _)| *tile)
    }

    /// The launches of one variant.
    pub fn launches_with(&self, tile: &Tile, caps: &Caps) -> Vec<Launch> {
        if tile.splits > 1 {
            return self.split(tile, caps);
        }
        let [row_blocks, col_blocks] = tile.blocks(self.m, self.n);
        let parts = self.cost().flops.div_ceil(MAX_FLOPS_A_LAUNCH).max(1) as usize;
        let step = (row_blocks / parts).clamp(1, caps.max_workgroups as usize);
        (0..row_blocks)
            .step_by(step)
            .map(|first| {
                let blocks = [step.min(row_blocks - first), col_blocks];
                self.launch(tile.source(self.b_type, caps), tile.entry, first, blocks)
            })
            .collect()
    }

    /// The override constants of how a product ends.
    fn epilogue(&self) -> Vec<(&'static str, f64)> {
        let mut overrides = self.chain.overrides();
        overrides.push(("ACCUMULATE", f64::from(self.accumulate)));
        overrides.push(("FOLDED", f64::from(self.extent[..2] != [1; 2])));
        overrides
    }

    fn launch(
        &self,
        mut source: Source,
        entry: &'static str,
        first: usize,
        [row_blocks, col_blocks]: [usize; 2],
    ) -> Launch {
        let used = self.chain.operands.len();
        let ([a_row, a_col, a_batch], [b_row, b_col, b_batch]) =
            (self.a_strides(), self.b_strides());
        let mut dims = self.chain.dims(self.extent);
        let words = [self.m, self.n, self.k, first, a_row, a_col, a_batch, b_row, b_col, b_batch];
        dims.extend(words.map(|word| word as u32));
        dims.extend([self.out_row_len() as u32, 0]);
        let mut bindings = vec![Some(0), Some(1)];
        bindings.extend((0..MAX_OPERANDS).map(|i| (i < used).then_some(2 + i)));
        bindings.push(Some(2 + used));
        let mut overrides = self.epilogue();
        if matches!(entry, "tiled" | "vectors") && self.chain.is_long() {
            overrides.push((STORED_FIRST, 1.0));
        }
        if entry != "scalars" {
            overrides.push(("A_K_CONTIGUOUS", f64::from(u8::from(!self.trans_a))));
            overrides.push(("B_N_CONTIGUOUS", f64::from(u8::from(!self.trans_b))));
        }
        if let Some(patches) = &self.patches {
            source.imports.push(("common/a_rows", "common/a_patches"));
            overrides.extend(patches.overrides(!self.trans_a));
        }
        Launch {
            source,
            entry,
            overrides,
            dims,
            bindings,
            workgroups: [col_blocks as u32, row_blocks as u32, self.batch as u32],
        }
    }
}

impl Kernel for Matmul {
    fn name(&self) -> &'static str {
        if self.patches.is_some() { "conv" } else { "matmul" }
    }

    fn operands(&self) -> Vec<Operand> {
        let copies = |shared| if shared { 1 } else { self.batch };
        let mut operands = vec![
            Operand::read("a", self.spans()[0]),
            Operand::read_weights("b", copies(self.shared_b) * self.k * self.n, self.b_type),
        ];
        for (i, name) in OPERAND_NAMES.iter().enumerate().take(self.chain.operands.len()) {
            operands.push(Operand::read(name, self.chain.operand_len(i, self.extent)));
        }
        let rest_stays = self.ldc.is_some_and(|ldc| ldc > self.n);
        let out = if self.accumulate || rest_stays { Operand::update } else { Operand::write };
        operands.push(out("out", self.spans()[1]));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(&self.default_tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        self.variants_halved(caps, &[])
    }

    /// Factors are rounded to f16 where that loses no more than the operands do: where both lie in it, or A and the result.
    fn variants_halved(&self, caps: &Caps, halves: &[usize]) -> Vec<Variant> {
        let [a, b, out] = [0, 1, 2 + self.chain.operands.len()].map(|i| halves.contains(&i));
        let cooperative = Tile::ALL.into_iter().filter(Tile::is_cooperative);
        let rounded =
            cooperative.map(Tile::halved).filter(|_| a && (b || self.b_type == DType::F16 || out));
        let default = self.default_tile(caps);
        let others = Tile::ALL.into_iter().chain(rounded);
        let others = others.filter(|tile| *tile != default && self.fits(tile, caps));
        let variant =
            |tile: Tile| Variant { name: tile.name(), launches: self.launches_with(&tile, caps) };
        [default].into_iter().chain(others).map(variant).collect()
    }

    /// Sizes to the next power of two, the operands' layouts, and whether they lie in fours.
    fn bucket(&self) -> String {
        let [m, n, k, batch] =
            [self.m, self.n, self.k, self.batch].map(|size| size.max(1).next_power_of_two());
        let layout = [self.trans_a, self.trans_b].map(|trans| if trans { 'T' } else { 'N' });
        let [a, b] = layout;
        let fours = if self.in_fours() { " in fours" } else { "" };
        let stored = match self.b_type {
            DType::F16 => ", B in f16".to_owned(),
            DType::I8 => ", B in i8".to_owned(),
            DType::Blocks(blocks) => format!(", B in {}", blocks.name()),
            DType::F32 | DType::I32 => String::new(),
        };
        let patches = self.patches.map_or_else(String::new, |patches| patches.bucket());
        format!("{batch} of {m}x{n}x{k} {a}{b}{fours}{stored}{patches}")
    }

    fn parts(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        self.cut(operand, most)
    }

    fn halves(&self) -> Vec<usize> {
        let b = (self.b_type == DType::F32).then_some(1);
        [0].into_iter().chain(b).chain(2..=2 + self.chain.operands.len()).collect()
    }

    fn scratch(&self) -> usize {
        self.split_scratch()
    }

    fn order_of_sums(&self) -> Option<u8> {
        Some(self.way())
    }

    fn cost(&self) -> Cost {
        let operands = self.operands();
        let out = self.batch * self.m * self.n;
        let a = if self.shared_a { 1 } else { self.batch } * self.m * self.k;
        let a = self.patches.map_or(a, |patches| patches.len());
        let read = operands[1..operands.len() - 1].iter().map(Operand::bytes).sum::<u64>();
        let (read, onto) = (bytes(a) + read, if self.accumulate { bytes(out) } else { 0 });
        let flops = 2 * self.k + self.chain.stages.len();
        Cost {
            flops: out as u64 * flops as u64,
            bytes_read: read + onto,
            bytes_written: bytes(out),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::chain::{Binary, Stage};
    use crate::{Arg, Args, StepState};

    fn numbers(len: usize, salt: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 37 + salt * 11) % 19) as f64 / 7.0 - 1.3).collect()
    }

    #[test]
    fn every_layout_is_the_definition() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 9), (2, 64, 31)] {
            for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut kernel = Matmul::new(m, n, k, trans_a, trans_b);
                kernel.batch = 2;
                kernel.extent = [1, 2, m as u32, n as u32];
                kernel.chain = Chain {
                    stages: vec![Stage::Binary(Binary::Add, 0), Stage::Relu],
                    operands: vec![[0, 0, 0, 1]],
                };
                let (a, b, bias) = (numbers(2 * m * k, 1), numbers(2 * k * n, 2), numbers(n, 3));
                let mut out = vec![0.0; 2 * m * n];
                kernel.run_f64(
                    Args::new(vec![
                        Arg::Read(&a),
                        Arg::Read(&b),
                        Arg::Read(&bias),
                        Arg::Write(&mut out),
                    ]),
                    &StepState::default(),
                );
                for batch in 0..2 {
                    for i in 0..m {
                        for j in 0..n {
                            let sum: f64 = (0..k)
                                .map(|d| {
                                    let a_at = if trans_a { d * m + i } else { i * k + d };
                                    let b_at = if trans_b { j * k + d } else { d * n + j };
                                    a[batch * m * k + a_at] * b[batch * k * n + b_at]
                                })
                                .sum();
                            let expected = (sum + bias[j]).max(0.0);
                            assert!((out[(batch * m + i) * n + j] - expected).abs() < 1e-12);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn few_rows_are_the_definition() {
        for (m, n, k) in [(1, 300, 200), (2, 129, 517), (3, 64, 512), (4, 1000, 33), (5, 300, 200)]
        {
            let mut kernel = Matmul::new(m, n, k, false, true);
            kernel.chain = Chain {
                stages: vec![Stage::Binary(Binary::Add, 0), Stage::Relu],
                operands: vec![[0, 0, n as u32, 1]],
            };
            let (a, b, more) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let mut out = vec![f64::NAN; m * n];
            let mut args = [&a, &b, &more].map(|x| Arg::Read(x)).into_iter().collect::<Vec<_>>();
            args.push(Arg::Write(&mut out));
            kernel.run_f64(Args::new(args), &StepState::default());
            for (at, found) in out.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let sum: f64 = (0..k).map(|d| a[i * k + d] * b[j * k + d]).sum();
                let expected = (sum + more[at]).max(0.0);
                assert!((found - expected).abs() < 1e-11, "{m} {n} {k}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn halves_give_what_the_same_floats_give() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (40, 33, 9), (2, 70, 5000)] {
            for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
                let product = Matmul { batch: 2, ..Matmul::new(m, n, k, trans_a, trans_b) };
                let halves: Vec<f16> =
                    numbers(2 * k * n, 2).into_iter().map(f16::from_f64).collect();
                let (a, b): (Vec<f64>, Vec<f64>) =
                    (numbers(2 * m * k, 1), halves.iter().map(|half| half.to_f64()).collect());
                let out = |kernel: Matmul, b: Arg<'_, f64>| {
                    let mut out = vec![0.0; 2 * m * n];
                    let args = Args::new(vec![Arg::Read(&a), b, Arg::Write(&mut out)]);
                    kernel.run_f64(args, &StepState::default());
                    out
                };
                let b_type = DType::F16;
                let found = out(Matmul { b_type, ..product.clone() }, Arg::ReadF16(&halves));
                let expected = out(product, Arg::Read(&b));
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-11, "{m} {n} {k}");
                }
            }
        }
    }

    #[test]
    fn blocks_hold_every_element_once() {
        for (m, n, k, batch) in [
            (1, 1, 1, 1),
            (3, 5, 7, 4),
            (100, 1000, 999, 1),
            (513, 33, 4096, 3),
            (0, 5, 5, 2),
            (17, 900, 8192, 2),
        ] {
            let kernel = Matmul { batch, ..Matmul::new(m, n, k, false, false) };
            for side in [1, 2, 3, 16, 64].map(|threads| kernel.cpu_block(threads)) {
                let mut written = vec![0; batch * m * n];
                for block in (0..kernel.blocks(side)).map(|number| kernel.block(side, number)) {
                    for row in block.i..block.i + block.rows {
                        let start = (block.batch * m + row) * n + block.j;
                        written[start..start + block.cols].iter_mut().for_each(|count| *count += 1);
                    }
                }
                assert!(
                    written.iter().all(|&count| count == 1),
                    "{kernel:?} in blocks of {side:?}"
                );
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let pools = [1, 2, 3, 7, 32]
            .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
        // Sides just beyond what gemm takes another way, remainders of one row or column, sums of several chunks.
        let sizes = [
            (128, 1200, 784),
            (64, 64, 4000),
            (65, 64, 4000),
            (129, 66, 700),
            (1, 3001, 1200),
            (2000, 1, 1500),
            (1217, 2, 2000),
            (257, 10, 3000),
            (80, 1030, 515),
            (33, 97, 5000),
        ];
        let mut blocks = Vec::new();
        for (m, n, k) in sizes {
            for (trans_a, trans_b) in [(false, false), (false, true), (true, false)] {
                for b_type in [DType::F32, DType::F16] {
                    let product = Matmul { b_type, ..Matmul::new(m, n, k, trans_a, trans_b) };
                    let a: Vec<f32> = numbers(m * k, 1).into_iter().map(|a| a as f32).collect();
                    let halves: Vec<f16> =
                        numbers(k * n, 2).into_iter().map(f16::from_f64).collect();
                    let b: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
                    let made = pools.each_ref().map(|pool| {
                        let mut out = vec![0.0_f32; m * n];
                        let right = match b_type {
                            DType::F16 => Arg::ReadF16(&halves),
                            _ => Arg::Read(&b),
                        };
                        let args = Args::new(vec![Arg::Read(&a), right, Arg::Write(&mut out)]);
                        pool.install(|| product.run_f32(args, &StepState::default()));
                        out.iter().map(|out| out.to_bits()).collect::<Vec<_>>()
                    });
                    let [one, others @ ..] = &made;
                    for (other, threads) in others.iter().zip([2, 3, 7, 32]) {
                        assert!(other == one, "{product:?} on {threads} threads");
                    }
                    blocks.push(product.blocks(product.cpu_block(32)));
                }
            }
        }
        // All but the products that gemm takes in chunks of their own are cut.
        assert!(blocks.iter().filter(|&&blocks| blocks > 1).count() > 40, "{blocks:?}");
    }

    #[test]
    fn long_products_are_split_under_the_watchdog() {
        let kernel = Matmul::new(100_000, 50_000, 4096, false, true);
        let launches = kernel.launches(&Caps::default());
        assert!(launches.len() as u64 >= kernel.cost().flops / MAX_FLOPS_A_LAUNCH);
        let blocks: u32 = launches.iter().map(|l| l.workgroups[1]).sum();
        assert_eq!(blocks as usize, 100_000_usize.div_ceil(128));
    }
}
