//! The product on the processor: blocks of `out` are tasks, each one call of gemm, with the chain on it while it is in the
//! cache.

use std::cell::RefCell;

use half::f16;
use rayon::prelude::*;

use super::Matmul;
use crate::chain::{self, Row};
use crate::gemm::product;
use crate::{Args, Blocks, DType, Real, StepState};

impl Matmul {
    pub(super) fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        if let Some(patches) = self.patches {
            return self.run_patches(patches, args, state);
        }
        let a = args.read(0);
        let b = match self.b_type {
            DType::F16 => Right::Halves(args.read_f16(1)),
            DType::I8 => Right::Bytes(args.read_i8(1)),
            DType::Blocks(blocks) => Right::Blocks(blocks, args.read_blocks(1)),
            DType::F32 | DType::I32 => Right::Floats(args.read(1)),
        };
        let operands: Vec<&[F]> =
            (0..self.chain.operands.len()).map(|i| args.read(2 + i)).collect();
        let out = args.write(2 + operands.len());
        let copies = |shared| if shared { 1 } else { self.batch };
        assert!(a.len() >= self.spans()[0]);
        assert!(b.holds(copies(self.shared_b) * self.k * self.n));
        assert!(out.len() == self.spans()[1]);
        let out = Out(out.as_mut_ptr());
        if let (true, Right::Floats(b)) = (self.has_few_rows(), &b) {
            return self.run_few_rows([a, b], &out, &operands, state);
        }
        let side = self.cpu_block(rayon::current_num_threads());
        (0..self.blocks(side)).into_par_iter().for_each(|number| {
            let block = self.block(side, number);
            // SAFETY: the lengths are asserted above; `out` is borrowed mutably until all tasks are done, and its
            // blocks have no element in common, of which each task has another.
            unsafe { self.run_block(&block, a, &b, &out, &operands, state) };
        });
    }

    /// How the elements of this product are summed, as a number.
    pub(super) fn way(&self) -> u8 {
        const FEW_ROWS: u8 = u8::MAX;
        if self.has_few_rows() { FEW_ROWS } else { Way::of(self.m, self.n) as u8 }
    }

    /// Number of blocks of at most `rows` × `cols` that `out` falls into.
    pub(super) fn blocks(&self, [rows, cols]: [usize; 2]) -> usize {
        self.batch * self.m.div_ceil(rows) * self.n.div_ceil(cols)
    }

    /// One of those blocks: together they hold each element of `out` once.
    pub(super) fn block(&self, [rows, cols]: [usize; 2], number: usize) -> Block {
        let [row_blocks, col_blocks] = [self.m.div_ceil(rows), self.n.div_ceil(cols)];
        let [i, j] = [number / col_blocks % row_blocks * rows, number % col_blocks * cols];
        Block {
            batch: number / col_blocks / row_blocks,
            i,
            j,
            rows: rows.min(self.m - i),
            cols: cols.min(self.n - j),
        }
    }

    /// Rows and columns of the blocks of `out` that the CPU twin's tasks take: the longer side is halved
    /// until every thread has work, or the blocks get too small to be worth a task. A cut that would make gemm sum an
    /// element another way is not made, so the number of threads changes no bit of a product.
    pub(super) fn cpu_block(&self, threads: usize) -> [usize; 2] {
        const BLOCKS_A_THREAD: usize = 2;
        const LEAST_PRODUCTS: usize = 1 << 20;
        // A multiple of every register tile's side, or of its half.
        const STEP: usize = 16;
        // Strips of B that are made floats stay the same strips.
        let step = if self.is_widened() && self.stripe() < self.n { self.stripe() } else { STEP };
        let halved = |side: usize, step: usize| side.div_ceil(2).next_multiple_of(step).min(side);
        let mut block = [self.m, self.n];
        while self.blocks(block.map(|side| side.max(1))) < BLOCKS_A_THREAD * threads
            && block[0] * block[1] * self.k >= 2 * LEAST_PRODUCTS
        {
            let [rows, cols] = block;
            let mut cuts = [[halved(rows, STEP), cols], [rows, halved(cols, step)]];
            if rows <= cols {
                cuts.reverse();
            }
            let alike = |cut: &&[usize; 2]| **cut != block && self.sums_alike(**cut);
            let Some(cut) = cuts.iter().find(alike) else { break };
            block = *cut;
        }
        block.map(|side| side.max(1))
    }

    /// Whether gemm sums the elements of all blocks of this size as it does those of the whole product.
    fn sums_alike(&self, [rows, cols]: [usize; 2]) -> bool {
        // A side falls into parts of one length and perhaps a shorter one.
        let parts = |whole: usize, part: usize| {
            [part.min(whole), whole % part].into_iter().filter(|&part| part > 0)
        };
        // What gemm is given at a time, and what it is given of the whole product: of halves, strips, which stay the same.
        let widths: Vec<(usize, usize)> = match self.is_widened() && self.stripe() < self.n {
            true => parts(self.n, self.stripe()).map(|strip| (strip, strip)).collect(),
            false => parts(self.n, cols).map(|part| (part, self.n)).collect(),
        };
        let alike = |rows: usize| {
            let mut widths = widths.iter();
            widths.all(|&(cols, whole)| Way::of(rows, cols) == Way::of(self.m, whole))
        };
        parts(self.m, rows).all(alike)
    }

    /// Whether B is made floats before it is multiplied.
    fn is_widened(&self) -> bool {
        self.b_type != DType::F32
    }

    /// Columns of B that are made floats at one time: as many as stay in a cache, so that A is packed few times, and
    /// no fewer than a register tile has.
    fn stripe(&self) -> usize {
        const ELEMENTS: usize = 1 << 18;
        const LEAST: usize = 16;
        (ELEMENTS / self.k.max(1)).max(LEAST) / LEAST * LEAST
    }

    /// Writes some columns of B, whose elements from one on `widen` makes floats, to `wide`; returns the strides that they
    /// have there.
    fn widen<F: Real>(
        &self,
        start: usize,
        (first, cols): (usize, usize),
        wide: &mut [F],
        widen: impl Fn(usize, &mut [F]),
    ) -> [usize; 2] {
        if self.trans_b {
            widen(start + first * self.k, wide);
            return [1, self.k];
        }
        for (row, wide) in wide.chunks_exact_mut(cols).enumerate() {
            widen(start + row * self.n + first, wide);
        }
        [cols, 1]
    }

    /// One block of the product, and the chain on it while it is in the cache.
    ///
    /// # Safety
    /// `a`, `b` and `out` are whole operands, the block lies inside `out`, and nothing else touches it.
    unsafe fn run_block<F: Real>(
        &self,
        block: &Block,
        a: &[F],
        b: &Right<'_, F>,
        out: &Out<F>,
        operands: &[&[F]],
        state: &StepState,
    ) {
        let &Block { batch, i, j, rows, cols } = block;
        let ([a_row, a_col, a_batch], [b_row, b_col, b_batch]) =
            (self.a_strides(), self.b_strides());
        let (first_row, out_row) = (batch * self.m + i, self.out_row_len());
        // Some columns of the product, `b` being their elements with these strides.
        //
        // SAFETY: as the caller promises: the product writes elements of the block, with strides [out_row, 1], and reads the
        // block's rows of A and those columns of B, with strides that stay inside them.
        let columns = |first: usize, cols: usize, b: &[F], [b_row, b_col]: [usize; 2]| unsafe {
            product(
                [rows, cols, self.k],
                (out.0.add(first_row * out_row + first), out_row, 1),
                self.accumulate,
                (a.as_ptr().add(batch * a_batch + i * a_row), a_row, a_col),
                (b.as_ptr(), b_row, b_col),
                1.0,
            );
        };
        match b {
            Right::Floats(b) => {
                columns(j, cols, &b[batch * b_batch + j * b_col..], [b_row, b_col]);
            }
            Right::Halves(_) | Right::Bytes(_) | Right::Blocks(..) => {
                let most = self.stripe().min(cols);
                WIDE.with_borrow_mut(|wide| {
                    let room = (most * self.k * size_of::<F>()).div_ceil(size_of::<f64>());
                    wide.resize(wide.len().max(room), 0.0);
                    let wide: &mut [F] = bytemuck::cast_slice_mut(wide);
                    for first in (j..j + cols).step_by(most) {
                        let strip = most.min(j + cols - first);
                        let wide = &mut wide[..strip * self.k];
                        let columns_of_b = (first, strip);
                        let strides =
                            self.widen(batch * b_batch, columns_of_b, wide, |at, wide| match b {
                                Right::Halves(b) => F::widen(&b[at..][..wide.len()], wide),
                                Right::Bytes(b) => F::widen_bytes(&b[at..][..wide.len()], wide),
                                Right::Blocks(blocks, b) => blocks.widen(b, at, wide),
                                Right::Floats(_) => unreachable!("floats are read as they are"),
                            });
                        columns(first, strip, wide, strides);
                    }
                });
            }
        }
        if self.chain.is_empty() {
            return;
        }
        for at in first_row..first_row + rows {
            // SAFETY: a part of the block's row, which gemm has filled and nothing else borrows.
            let values =
                unsafe { std::slice::from_raw_parts_mut(out.0.add(at * out_row + j), cols) };
            let coord = chain::place(at, j, self.extent);
            let row = Row { from: None, values };
            self.chain.apply_row(row, coord, self.extent, operands, state);
        }
    }
}

/// How gemm 0.19 sums the products of an element, by the sizes of the result (`gemm_common::gemm::gemm_basic_generic`):
/// all that it depends on beside their number, which [`product`] bounds, and where they lie in memory. Of results of one way, an element has the same
/// bits in whichever it lies.
#[derive(PartialEq)]
enum Way {
    /// Few elements: sums in the lanes of a register.
    Tiny,
    Row,
    Column,
    /// One after the other.
    Large,
}

impl Way {
    fn of(rows: usize, cols: usize) -> Self {
        match (rows, cols) {
            _ if rows * cols <= 256 => Self::Tiny,
            (1, _) => Self::Row,
            (_, 1) => Self::Column,
            _ => Self::Large,
        }
    }
}

thread_local! {
    /// Columns of B that a thread has made floats, of f32 or f64; kept for its next product.
    static WIDE: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// B as it is stored.
enum Right<'a, F> {
    Floats(&'a [F]),
    Halves(&'a [f16]),
    Bytes(&'a [i8]),
    Blocks(Blocks, &'a [u32]),
}

impl<F> Right<'_, F> {
    /// Whether there are so many elements.
    fn holds(&self, elements: usize) -> bool {
        match self {
            Self::Floats(b) => b.len() >= elements,
            Self::Halves(b) => b.len() >= elements,
            Self::Bytes(b) => b.len() >= elements,
            Self::Blocks(blocks, b) => b.len() / blocks.words() * blocks.numbers() >= elements,
        }
    }
}

/// A block of one of the products.
pub(super) struct Block {
    pub batch: usize,
    pub i: usize,
    pub j: usize,
    pub rows: usize,
    pub cols: usize,
}

/// The first element of an output that tasks write at the same time. Blocks of a matrix lie in the memory as many
/// pieces, so slices cannot be split into them.
///
/// Whoever goes through the pointer promises that
/// - the output is borrowed mutably, and by nobody else, from when the pointer is taken until all tasks are done;
/// - what is reached lies in the output;
/// - between those two times no other task reaches the same element, to write or to read, and a slice made from
///   the pointer holds no element of another task.
pub(crate) struct Out<F>(pub(crate) *mut F);

// SAFETY: to share it only lends the address; by the promise above, an element that is reached through it is reached
// by one thread, which takes `F: Send`.
unsafe impl<F: Send> Sync for Out<F> {}
