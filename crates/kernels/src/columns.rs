//! A matrix cut into blocks of columns, and put together of them.

use rayon::prelude::*;

use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

const THREADS: usize = 64;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;
/// Names of the blocks.
const BLOCKS: [&str; MAX_BLOCKS] = ["block0", "block1", "block2", "block3"];

/// Most blocks of a matrix.
pub const MAX_BLOCKS: usize = 4;

/// Cuts x [rows, blocks · cols] into blocks [rows, cols], or with `join` puts x together of them.
///
/// Operands: `x`, then each block; with `join` the blocks, then `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Rows.
    pub rows: usize,
    /// Columns of a block, at least 1.
    pub cols: usize,
    /// Blocks, at least 1 and at most [`MAX_BLOCKS`].
    pub blocks: usize,
    /// Whether the matrix is made of the blocks.
    pub join: bool,
}

impl Columns {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (cols, width) = (self.cols, self.blocks * self.cols);
        if self.join {
            let blocks: Vec<&[F]> = (0..self.blocks).map(|block| args.read(block)).collect();
            let rows = args.write(self.blocks).par_chunks_exact_mut(width).enumerate();
            return rows.with_min_len(TASK_LEN.div_ceil(width)).for_each(|(row, x)| {
                for (x, block) in x.chunks_exact_mut(cols).zip(&blocks) {
                    x.copy_from_slice(&block[row * cols..][..cols]);
                }
            });
        }
        let x = args.read(0);
        for block in 0..self.blocks {
            let rows = args.write(1 + block).par_chunks_exact_mut(cols);
            let rows = rows.zip(x.par_chunks_exact(width)).with_min_len(TASK_LEN.div_ceil(cols));
            rows.for_each(|(out, x)| out.copy_from_slice(&x[block * cols..][..cols]));
        }
    }
}

impl Kernel for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.cols;
        let blocks = BLOCKS.iter().take(self.blocks);
        if self.join {
            let blocks = blocks.map(|name| Operand::read(name, len));
            return blocks.chain([Operand::write("x", self.blocks * len)]).collect();
        }
        let x = Operand::read("x", self.blocks * len);
        [x].into_iter().chain(blocks.map(|name| Operand::write(name, len))).collect()
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let (len, rounds) = (self.rows * self.cols, caps.rounds());
        let launch = |block: usize| {
            let whole = [self.blocks * self.cols, block * self.cols];
            let own = [self.cols, 0];
            let (from, to) = if self.join { (own, whole) } else { (whole, own) };
            let bindings = if self.join { [block, self.blocks] } else { [0, 1 + block] };
            let dims = [len, self.cols, from[0], from[1], to[0], to[1]];
            Launch {
                source: Source::of("columns"),
                entry: "columns",
                overrides: vec![("ROUNDS", rounds as f64)],
                dims: dims.map(|word| word as u32).to_vec(),
                bindings: bindings.map(Some).to_vec(),
                workgroups: caps.grid(len.div_ceil(THREADS * rounds)),
            }
        };
        (0..self.blocks).map(launch).collect()
    }

    fn halves(&self) -> Vec<usize> {
        (0..=self.blocks).collect()
    }

    fn cost(&self) -> Cost {
        let moved = bytes(self.rows * self.cols * self.blocks);
        Cost { flops: 0, bytes_read: moved, bytes_written: moved }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    #[test]
    fn cut_and_put_together() {
        let (rows, cols, blocks) = (2, 3, 2);
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let kernel = Columns { rows, cols, blocks, join: false };
        let (mut a, mut b) = (vec![f64::NAN; 6], vec![f64::NAN; 6]);
        let args = vec![Arg::Read(&x), Arg::Write(&mut a), Arg::Write(&mut b)];
        kernel.run_f64(Args::new(args), &StepState::default());
        assert_eq!(a, [0.0, 1.0, 2.0, 6.0, 7.0, 8.0]);
        assert_eq!(b, [3.0, 4.0, 5.0, 9.0, 10.0, 11.0]);
        let mut joined = vec![f64::NAN; 12];
        let args = vec![Arg::Read(&a), Arg::Read(&b), Arg::Write(&mut joined)];
        Columns { join: true, ..kernel }.run_f64(Args::new(args), &StepState::default());
        assert_eq!(joined, x);
    }
}
