//! MiniLM's losses: how far the student's self-attention relations are from the teacher's, and the gradients. The
//! formulas stand in `shaders/relation_loss.wgsl`.

use rayon::prelude::*;

use crate::gemm::product;
use crate::matmul::{MAX_FLOPS_A_LAUNCH, Out};
use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, row, twin};

/// Rows of a workgroup, and of the other side that it takes at a time.
const TILE: usize = 16;
/// Rows of a block of the CPU twin: enough for gemm, few enough that a block's scores stay in the cache.
const BLOCK: usize = 64;

/// KL(teacher's ‖ student's) of the rows of softmax(a · bᵀ / √head_dim), head by head, padding left out: of attention
/// where a and b are queries and keys, of the value relations where both are the values.
///
/// Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
/// 2020; the mean is over heads and over all positions of the batch that are no padding.
///
/// Operands: `a` and `b` f32 [batch, length, heads · head_dim], the student's; `teacher_a` and `teacher_b` f32 [batch,
/// length, heads · teacher_dim]; `lengths` i32 \[batch]: positions from there on are padding; `row_loss` [batch, heads,
/// length]: weight · token_scale / heads · value; `stats` [batch, heads, length, 2], which launches tell each other;
/// and, if they are asked for, the gradients `da` and `db` of the sum of `row_loss`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelationLoss {
    /// Examples.
    pub batch: usize,
    /// Positions of an example, padding included.
    pub length: usize,
    /// Heads, of the student and of the teacher.
    pub heads: usize,
    /// Columns of a head of the student.
    pub head_dim: usize,
    /// Columns of a head of the teacher.
    pub teacher_dim: usize,
    /// Weight of the term.
    pub weight: f32,
    /// Whether the gradients are made.
    pub gradient: bool,
}

// Operands, by their place.
const A: usize = 0;
const B: usize = 1;
const TEACHER_A: usize = 2;
const TEACHER_B: usize = 3;
const LENGTHS: usize = 4;
const ROW_LOSS: usize = 5;
const STATS: usize = 6;
const DA: usize = 7;
const DB: usize = 8;

/// One side's rows in the CPU twin: elements from one position to the next, columns of a head, factor of the scores.
#[derive(Clone, Copy)]
struct Side {
    stride: usize,
    head_dim: usize,
    scale: f64,
}

impl RelationLoss {
    fn rows(&self) -> usize {
        self.batch * self.heads * self.length
    }

    fn side(&self, head_dim: usize) -> Side {
        Side { stride: self.heads * head_dim, head_dim, scale: 1.0 / (head_dim as f64).sqrt() }
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let [a, b, teacher_a, teacher_b] = [A, B, TEACHER_A, TEACHER_B].map(|of| args.read(of));
        let lengths = args.read_i32(LENGTHS);
        let (row_loss, stats) = (args.write(ROW_LOSS), args.write(STATS));
        let (own, theirs) = (self.side(self.head_dim), self.side(self.teacher_dim));
        let len = self.batch * self.length * own.stride;
        assert!(a.len() == len && b.len() == len);
        let gradients = self.gradient.then(|| [DA, DB].map(|of| args.write(of)));
        let gradients = gradients.map(|made| {
            made.map(|made| {
                assert_eq!(made.len(), len);
                made.fill(F::zero());
                Out(made.as_mut_ptr())
            })
        });
        let share = F::of(self.weight) * F::of(state.token_scale) / F::of64(self.heads as f64);
        let heads = row_loss.par_chunks_mut(self.length).zip(stats.par_chunks_mut(2 * self.length));
        heads.enumerate().for_each_init(
            || [Vec::new(), Vec::new()],
            |[scores, targets], (pair, (row_loss, stats))| {
                row_loss.fill(F::zero());
                stats.fill(F::zero());
                let end = lengths[pair / self.heads].clamp(0, self.length as i32) as usize;
                for first in (0..end).step_by(BLOCK) {
                    let rows = BLOCK.min(end - first);
                    let block = [rows, end];
                    self.scores(own, pair, first, block, [a, b], scores);
                    self.scores(theirs, pair, first, block, [teacher_a, teacher_b], targets);
                    for row in 0..rows {
                        let s = &mut scores[row * end..][..end];
                        let t = &targets[row * end..][..end];
                        let (value, logs) = divergence(s, t);
                        row_loss[first + row] = share * value;
                        stats[2 * (first + row)..][..2].copy_from_slice(&logs);
                    }
                    let Some([da, db]) = &gradients else { continue };
                    let factor = f64::from(state.loss_scale) * share.f64() * own.scale;
                    let (slopes, stride) = (scores.as_ptr(), own.stride);
                    let (at, base) = (self.at(own, pair, first), self.at(own, pair, 0));
                    // SAFETY: slopes is [rows, end] within its scratch; a, b and their gradients hold the head's
                    // columns of `rows` rows from `at` on and of `end` rows from `base` on, as asserted above, and
                    // those of the gradients are this task's.
                    unsafe {
                        let b = (b.as_ptr().add(base), stride, 1);
                        let a = (a.as_ptr().add(at), stride, 1);
                        let (da, db) = ((da.0.add(at), stride, 1), (db.0.add(base), stride, 1));
                        let dim = own.head_dim;
                        product([rows, dim, end], da, false, (slopes, end, 1), b, factor);
                        product([end, dim, rows], db, true, (slopes, 1, end), a, factor);
                    }
                }
            },
        );
    }

    /// First element of a row of a head.
    fn at(&self, side: Side, pair: usize, row: usize) -> usize {
        let (example, head) = (pair / self.heads, pair % self.heads);
        (example * self.length + row) * side.stride + head * side.head_dim
    }

    /// The scores of `rows` rows from `first` on with the first `end`.
    fn scores<F: Real>(
        &self,
        side: Side,
        pair: usize,
        first: usize,
        [rows, end]: [usize; 2],
        [a, b]: [&[F]; 2],
        scores: &mut Vec<F>,
    ) {
        scores.resize(BLOCK * end, F::zero());
        let (own, base) = (self.at(side, pair, first), self.at(side, pair, 0));
        let Side { stride, head_dim, scale } = side;
        assert!(own + (rows - 1) * stride + head_dim <= a.len());
        assert!(base + (end - 1) * stride + head_dim <= b.len());
        // SAFETY: the last elements of both are asserted above to exist; scores is [BLOCK, end].
        unsafe {
            let a = (a.as_ptr().add(own), stride, 1);
            let b = (b.as_ptr().add(base), 1, stride);
            product([rows, end, head_dim], (scores.as_mut_ptr(), end, 1), false, a, b, scale);
        }
    }

    /// A pass over all rows, in as many launches as keep each short.
    fn pass(&self, caps: &Caps, entry: &'static str, outs: &[usize]) -> Vec<Launch> {
        const MAX_FLOPS: u64 = MAX_FLOPS_A_LAUNCH / 4;
        let row_blocks = self.length.div_ceil(TILE);
        let groups = self.batch * self.heads * row_blocks;
        let dims = 4 * self.head_dim + 2 * self.teacher_dim;
        let flops = (self.rows() * self.length) as u64 * dims as u64;
        let step = groups.div_ceil(flops.div_ceil(MAX_FLOPS).max(1) as usize);
        let (own, theirs) = (self.side(self.head_dim), self.side(self.teacher_dim));
        let launch = |first: usize| {
            let count = step.min(groups - first);
            let sizes = [self.batch, self.length, self.heads, self.head_dim, self.teacher_dim];
            let mut dims = sizes.to_vec();
            dims.extend([row_blocks, first, count]);
            let mut dims: Vec<u32> = dims.into_iter().map(|word| word as u32).collect();
            dims.extend([own.scale as f32, theirs.scale as f32, self.weight].map(f32::to_bits));
            let read = [A, B, TEACHER_A, TEACHER_B, LENGTHS, STATS];
            Launch {
                source: Source {
                    consts: vec![("PARTS", self.head_dim.div_ceil(TILE) as u32)],
                    ..Source::of("relation_loss")
                },
                entry,
                overrides: vec![("ROWS_ARE_KEYS", f64::from(u8::from(entry == "key")))],
                dims,
                bindings: read.into_iter().chain(outs.iter().copied()).map(Some).collect(),
                workgroups: caps.grid(count),
            }
        };
        (0..groups).step_by(step).map(launch).collect()
    }
}

/// The KL of two rows of scores, and the logarithms of their softmaxes' denominators; the student's scores become
/// q - p.
fn divergence<F: Real>(s: &mut [F], t: &[F]) -> (F, [F; 2]) {
    let (s_top, t_top) = (row::peak(s).0, row::peak(t).0);
    let sums = row::sums(
        s,
        t,
        #[inline(always)]
        move |s, t| [(s - s_top).fast_exp(), (t - t_top).fast_exp()],
    );
    let [s_log, t_log] = sums.map(|sum| F::of64(sum.ln()));
    let value = row::update(
        s,
        t,
        #[inline(always)]
        move |s, t| {
            let (log_q, log_p) = (s - s_top - s_log, t - t_top - t_log);
            let (q, p) = (log_q.fast_exp(), log_p.fast_exp());
            // As in the loss of logits: errors of the denominators cancel.
            let term = if p > F::zero() { p * (log_p - log_q) } else { F::zero() };
            (q - p, term + (q - p))
        },
    );
    (F::of64(value), [s_top + s_log, t_top + t_log])
}

impl Kernel for RelationLoss {
    fn name(&self) -> &'static str {
        "relation_loss"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = |dim: usize| self.batch * self.length * self.heads * dim;
        let (own, theirs) = (len(self.head_dim), len(self.teacher_dim));
        let mut operands = vec![
            Operand::read("a", own),
            Operand::read("b", own),
            Operand::read("teacher_a", theirs),
            Operand::read("teacher_b", theirs),
            Operand::read_i32("lengths", self.batch),
            Operand::write("row_loss", self.rows()),
            Operand::write("stats", 2 * self.rows()),
        ];
        if self.gradient {
            operands.extend([Operand::write("da", own), Operand::write("db", own)]);
        }
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let mut launches = self.pass(caps, "denominators", &[]);
        if self.gradient {
            launches.extend(self.pass(caps, "query", &[DA, ROW_LOSS]));
            launches.extend(self.pass(caps, "key", &[DB]));
        } else {
            launches.extend(self.pass(caps, "value", &[ROW_LOSS]));
        }
        launches
    }

    fn halves(&self) -> Vec<usize> {
        if self.gradient { vec![0, 1, 2, 3, 7, 8] } else { vec![0, 1, 2, 3] }
    }

    /// Of whole examples, and of scores made once: how many are padded is not known when a plan is made.
    fn cost(&self) -> Cost {
        let len = self.batch * self.length * self.heads;
        let pairs = (self.rows() * self.length) as u64;
        let gradients = if self.gradient { 4 * self.head_dim } else { 0 };
        let outs = if self.gradient { 2 * self.head_dim } else { 0 };
        let dims = self.head_dim + self.teacher_dim;
        Cost {
            // A pair: two products, two exponentials twice, and seven steps to value and slope.
            flops: pairs * (2 * dims + gradients + 15) as u64,
            bytes_read: bytes(2 * len * dims + self.batch),
            bytes_written: bytes(len * outs + 3 * self.rows()),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    fn numbers(len: usize, salt: u32) -> Vec<f64> {
        let unit = |i| f64::from(random::unit(random::word(salt, 5, 0, i)));
        (0..len as u32).map(|i| 4.0 * unit(i) - 2.0).collect()
    }

    const KERNEL: RelationLoss = RelationLoss {
        batch: 2,
        length: 5,
        heads: 3,
        head_dim: 2,
        teacher_dim: 4,
        weight: 0.5,
        gradient: true,
    };
    const LENGTHS: [i32; 2] = [5, 3];

    fn run(operands: [&[f64]; 4]) -> [Vec<f64>; 4] {
        let rows = KERNEL.rows();
        let len = operands[0].len();
        let mut outs = [rows, 2 * rows, len, len].map(|len| vec![f64::NAN; len]);
        let mut args: Vec<Arg<'_, f64>> = operands.into_iter().map(Arg::Read).collect();
        args.push(Arg::ReadI32(&LENGTHS));
        args.extend(outs.iter_mut().map(|out| Arg::Write(out)));
        let state = StepState { token_scale: 1.0 / 8.0, ..StepState::default() };
        KERNEL.run_f64(Args::new(args), &state);
        outs
    }

    /// The relation's rows of one head, as plainly as can be.
    fn relation(a: &[f64], b: &[f64], dim: usize, pair: usize) -> Vec<Vec<f64>> {
        let end = LENGTHS[pair / KERNEL.heads] as usize;
        let at = |row: usize| {
            ((pair / KERNEL.heads * KERNEL.length + row) * KERNEL.heads + pair % KERNEL.heads) * dim
        };
        let score = |i: usize, j: usize| {
            let products = (0..dim).map(|d| a[at(i) + d] * b[at(j) + d]);
            (products.sum::<f64>() / (dim as f64).sqrt()).exp()
        };
        let row = |i: usize| {
            let weights: Vec<f64> = (0..end).map(|j| score(i, j)).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|weight| weight / sum).collect()
        };
        (0..end).map(row).collect()
    }

    #[test]
    fn values_are_those_of_the_definition() {
        let [a, b] = [1, 2].map(|salt| numbers(60, salt));
        let [ta, tb] = [3, 4].map(|salt| numbers(120, salt));
        let [row_loss, ..] = run([&a, &b, &ta, &tb]);
        for pair in 0..6 {
            let (q, p) = (relation(&a, &b, 2, pair), relation(&ta, &tb, 4, pair));
            for row in 0..KERNEL.length {
                let found = row_loss[pair * KERNEL.length + row];
                let terms = |(q, p): (&Vec<f64>, &Vec<f64>)| {
                    q.iter().zip(p).map(|(q, p)| p * (p / q).ln()).sum::<f64>()
                };
                let expected = q.get(row).zip(p.get(row)).map_or(0.0, terms) * 0.5 / 24.0;
                assert!((found - expected).abs() < 1e-14, "{pair}, {row}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_slopes_and_stop_at_padding() {
        let operands = [(60, 1), (60, 2), (120, 3), (120, 4)].map(|(len, salt)| numbers(len, salt));
        let loss = |operands: &[Vec<f64>; 4]| {
            let [row_loss, ..] = run(operands.each_ref().map(Vec::as_slice));
            row_loss.iter().sum::<f64>()
        };
        let [_, _, da, db] = run(operands.each_ref().map(Vec::as_slice));
        for (of, gradient) in [da, db].iter().enumerate() {
            for at in 0..gradient.len() {
                let slope = [1e-5, -1e-5].map(|step| {
                    let mut moved = operands.clone();
                    moved[of][at] += step;
                    loss(&moved)
                });
                let slope = (slope[0] - slope[1]) / 2e-5;
                assert!(
                    (gradient[at] - slope).abs() < 1e-10,
                    "{of}, {at}: {} {slope}",
                    gradient[at]
                );
            }
            // Positions 3 and 4 of the second example.
            assert!(gradient[48..].iter().all(|&g| g == 0.0));
            assert!(gradient[..48].iter().all(|&g| g != 0.0));
        }
    }

    #[test]
    fn the_teacher_itself_has_no_loss() {
        let [a, b] = [1, 2].map(|salt| numbers(60, salt));
        let kernel = RelationLoss { teacher_dim: 2, gradient: false, ..KERNEL };
        let (mut row_loss, mut stats) = (vec![f64::NAN; 30], vec![f64::NAN; 60]);
        let args = vec![
            Arg::Read(&a),
            Arg::Read(&b),
            Arg::Read(&a),
            Arg::Read(&b),
            Arg::ReadI32(&LENGTHS),
            Arg::Write(&mut row_loss),
            Arg::Write(&mut stats),
        ];
        kernel.run_f64(Args::new(args), &StepState::default());
        assert!(row_loss.iter().all(|loss| loss.abs() < 1e-15));
    }
}
