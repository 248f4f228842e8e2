//! The CPU twin of attention: blocks of queries against all keys that they see, products by gemm, rows of scores in
//! a task's own scratch.
//!
//! Every block is one task's and every sum has its order, so the number of threads changes no bit.

use std::ops::Range;

use rayon::prelude::*;

use super::{Attention, DBIAS, DK, DOUT, DQ, DV, K, KEY_RANGES, LENGTHS, LSE, OUT, Q, STATS, V};
use crate::gemm::product;
use crate::matmul::Out;
use crate::row::vectorised;
use crate::{Args, Real, StepState, random};

/// Queries of a block: enough for gemm, few enough that a block's scores stay in the cache.
const BLOCK: usize = 64;
/// Rows of scratch are as long as a multiple of this: a pass over them has no remainder.
const LANES: usize = 16;

/// What a task works in.
#[derive(Default)]
struct Scratch<F> {
    /// Scores, then weights; [block, width].
    weights: Vec<F>,
    /// dout · vᵀ, then the scores' gradients; [block, width].
    gradients: Vec<F>,
    /// Random words of a row.
    words: Vec<u32>,
}

/// The queries of a block and the keys that they see.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// batch · heads + head.
    pair: usize,
    /// First query.
    first: usize,
    /// Queries.
    rows: usize,
    /// The first of the keys that some of the queries see.
    start: usize,
    /// How many keys these are, of which a mask hides some from some of the queries.
    keys: usize,
    /// Length of a row of scratch.
    width: usize,
    /// How many of the queries, from the first on, are no padding, where that is told of the keys.
    real: usize,
}

/// What a block's scores are made of.
#[derive(Clone, Copy, Debug)]
struct Reads<'a, F> {
    q: &'a [F],
    k: &'a [F],
    bias: Option<&'a [F]>,
}

impl Attention {
    pub(super) fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        assert!(args.read(Q).len() >= self.len());
        for operand in [K, V] {
            assert!(args.read(operand).len() >= self.kv_len());
        }
        let ranges = self.batch * self.length * if self.ranges { 2 } else { 0 };
        assert!(args.read_i32(LENGTHS).len() >= ranges.max(self.batch));
        if self.backward {
            self.run_backward(&mut args, state);
            if self.bias_gradient {
                self.run_bias_gradient(&mut args, state);
            }
        } else {
            self.run_forward(&mut args, state);
        }
    }

    fn run_forward<F: Real>(&self, args: &mut Args<'_, F>, state: &StepState) {
        let v = args.read(V);
        let reads = self.reads(args);
        let lengths = args.read_i32(LENGTHS);
        let (out, lse) = (args.write(OUT), args.write(LSE));
        assert!(out.len() == self.len() && lse.len() == self.rows());
        let out = Out(out.as_mut_ptr());
        let blocks = lse.par_chunks_mut(self.length).enumerate().flat_map(|(pair, lse)| {
            let blocks = lse.par_chunks_mut(BLOCK).enumerate();
            blocks.map(move |(number, lse)| (pair, number * BLOCK, lse))
        });
        blocks.for_each_init(Scratch::default, |scratch, (pair, first, lse)| {
            let block = self.block(lengths, pair, first);
            let own = self.at(pair, first);
            if block.keys == 0 {
                lse.fill(F::zero());
                for row in 0..block.rows {
                    // SAFETY: the head's columns of the block's queries are this task's.
                    unsafe { self.out_row(&out, own + row * self.stride()) }.fill(F::zero());
                }
                return;
            }
            self.scores(&block, reads.q, reads.k, &mut scratch.weights);
            let scale = self.scaled(&block, &reads, &mut scratch.weights);
            let shares = self.softmax(&block, scale, scratch, (lengths, lse), state);
            let weights = (scratch.weights.as_ptr(), block.width, 1);
            let (stride, kv_stride) = (self.stride(), self.kv_stride());
            // SAFETY: the weights are [rows, keys] within their scratch, the values [keys, head_dim] within v; the
            // head's columns of the block's queries are this task's.
            unsafe {
                let values = (v.as_ptr().add(self.key_at(pair, block.start)), kv_stride, 1);
                let target = (out.0.add(own), stride, 1);
                product(
                    [block.rows, self.head_dim, block.keys],
                    target,
                    false,
                    weights,
                    values,
                    1.0,
                );
            }
            for (row, share) in shares[..block.rows].iter().enumerate() {
                // SAFETY: as above.
                let out = unsafe { self.out_row(&out, own + row * stride) };
                out.iter_mut().for_each(|out| *out *= *share);
            }
        });
    }

    fn run_backward<F: Real>(&self, args: &mut Args<'_, F>, state: &StepState) {
        let [v, out, dout, lse] = [V, OUT, DOUT, LSE].map(|operand| args.read(operand));
        let reads = self.reads(args);
        let Reads { q, k, .. } = reads;
        let lengths = args.read_i32(LENGTHS);
        assert!(out.len() >= self.len() && dout.len() >= self.len());
        if self.ranges {
            assert!(args.read_i32(KEY_RANGES).len() >= 2 * self.batch * self.keys);
        }
        let gradients = [DQ, DK, DV].map(|operand| args.write(operand));
        let lens = gradients.each_ref().map(|gradient| gradient.len());
        assert_eq!(lens, [self.len(), self.kv_len(), self.kv_len()]);
        let [dq, dk, dv] = gradients.map(|gradient| Out(gradient.as_mut_ptr()));
        let (stats, example_keys) = args.write(STATS).split_at_mut(2 * self.rows());
        example_keys.iter_mut().zip(lengths).for_each(|(keys, &length)| {
            *keys = F::of(length.clamp(0, self.length as i32) as f32);
        });
        let sharers = self.sharers();
        let stats = stats.par_chunks_mut(2 * self.length * sharers);
        let heads = stats.zip(lse.par_chunks(self.length * sharers)).enumerate();
        heads.for_each_init(Scratch::default, |scratch, (group, (stats, lse))| {
            let (stride, kv_stride, head_dim) = (self.stride(), self.kv_stride(), self.head_dim);
            let kv_base = self.key_at(group * sharers, 0);
            for row in 0..self.keys {
                for gradient in [&dk, &dv] {
                    // SAFETY: the keys' columns of the example are this task's.
                    unsafe { self.out_row(gradient, kv_base + row * kv_stride) }.fill(F::zero());
                }
            }
            let rows = stats.as_chunks_mut().0.iter_mut().zip(lse);
            for (number, (stats, &lse)) in rows.enumerate() {
                let pair = group * sharers + number / self.length;
                let at = self.at(pair, number % self.length);
                let (out, dout) = (&out[at..at + head_dim], &dout[at..at + head_dim]);
                *stats = [lse, dot(out, dout)];
                // SAFETY: the heads' columns of the example are this task's.
                unsafe { self.out_row(&dq, at) }.fill(F::zero());
            }
            let blocks = (0..sharers).flat_map(|member| {
                (0..self.length).step_by(BLOCK).map(move |first| (member, first))
            });
            for (member, first) in blocks {
                let pair = group * sharers + member;
                let block @ Block { rows, keys, width, .. } = self.block(lengths, pair, first);
                if keys == 0 {
                    continue;
                }
                self.scores(&block, q, k, &mut scratch.weights);
                let scale = self.scaled(&block, &reads, &mut scratch.weights);
                self.scores(&block, dout, v, &mut scratch.gradients);
                let own_stats = &stats[2 * (member * self.length + first)..];
                self.score_gradients(&block, scale, scratch, (lengths, own_stats), state);
                let (weights, ds) = (scratch.weights.as_ptr(), scratch.gradients.as_ptr());
                let (own, base) = (self.at(pair, first), self.key_at(pair, block.start));
                let scale = f64::from(self.scale);
                // SAFETY: weights and ds are [rows, keys] within their scratch; what lies at `own` has the block's
                // rows, what lies at `base` has `keys` rows, of head_dim columns each, and is written by this task.
                unsafe {
                    let [q, dout] = [q, dout].map(|x| (x.as_ptr().add(own), stride, 1));
                    let k = (k.as_ptr().add(base), kv_stride, 1);
                    let [dk, dv] = [&dk, &dv].map(|x| (x.0.add(base), kv_stride, 1));
                    let dq = (dq.0.add(own), stride, 1);
                    product([rows, head_dim, keys], dq, false, (ds, width, 1), k, scale);
                    product([keys, head_dim, rows], dk, true, (ds, 1, width), q, scale);
                    product([keys, head_dim, rows], dv, true, (weights, 1, width), dout, 1.0);
                }
            }
        });
    }

    /// Each head's share of a bias, its scores' gradients summed over the examples that have it, in order.
    fn run_bias_gradient<F: Real>(&self, args: &mut Args<'_, F>, state: &StepState) {
        let [v, out, dout, lse] = [V, OUT, DOUT, LSE].map(|operand| args.read(operand));
        let reads = self.reads(args);
        let lengths = args.read_i32(LENGTHS);
        let dbias = args.write(DBIAS);
        assert_eq!(dbias.len(), self.bias_len());
        dbias.fill(F::zero());
        let examples = self.batch / self.bias.expect("a bias that has a gradient is there");
        let heads = dbias.par_chunks_mut(self.length * self.length).enumerate();
        let blocks = heads.flat_map(|(head, dbias)| {
            let blocks = dbias.par_chunks_mut(BLOCK * self.length).enumerate();
            blocks.map(move |(number, dbias)| (head, number * BLOCK, dbias))
        });
        blocks.for_each_init(Scratch::default, |scratch, (head, first, dbias)| {
            let example = head / self.heads * examples;
            for pair in (example..example + examples).map(|b| b * self.heads + head % self.heads) {
                let block = self.block(lengths, pair, first);
                if block.keys == 0 {
                    continue;
                }
                let stats: Vec<F> = (first..first + block.rows)
                    .flat_map(|row| {
                        let at = self.at(pair, row);
                        let [out, dout] = [out, dout].map(|x| &x[at..at + self.head_dim]);
                        [lse[pair * self.length + row], dot(out, dout)]
                    })
                    .collect();
                self.scores(&block, reads.q, reads.k, &mut scratch.weights);
                let scale = self.scaled(&block, &reads, &mut scratch.weights);
                self.scores(&block, dout, v, &mut scratch.gradients);
                self.score_gradients(&block, scale, scratch, (lengths, &stats), state);
                let rows = dbias.chunks_exact_mut(self.length);
                for (dbias, ds) in rows.zip(scratch.gradients.chunks_exact(block.width)) {
                    let dbias = &mut dbias[block.start..block.start + block.keys];
                    dbias.iter_mut().zip(ds).for_each(|(sum, &ds)| *sum += ds);
                }
            }
        });
    }

    fn reads<'a, F: Real>(&self, args: &Args<'a, F>) -> Reads<'a, F> {
        let bias = self.bias.map(|_| args.read(self.bias_operand()));
        assert!(bias.is_none_or(|bias| bias.len() == self.bias_len()));
        Reads { q: args.read(Q), k: args.read(K), bias }
    }

    /// First element of a row of a head.
    fn at(&self, pair: usize, row: usize) -> usize {
        let (batch, head) = (pair / self.heads, pair % self.heads);
        (batch * self.length + row) * self.stride() + head * self.head_dim
    }

    /// First element of a row of the keys and of the values of a head.
    fn key_at(&self, pair: usize, row: usize) -> usize {
        let (batch, head) = (pair / self.heads, pair % self.heads / self.sharers());
        (batch * self.keys + row) * self.kv_stride() + head * self.head_dim
    }

    /// The head's columns of one row of an output, from `at` on.
    ///
    /// # Safety
    /// The output is of q's shape, and nothing else touches these elements.
    #[allow(
        clippy::mut_from_ref,
        reason = "the tasks share the output, and each has its own elements"
    )]
    unsafe fn out_row<'a, F>(&self, out: &'a Out<F>, at: usize) -> &'a mut [F] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(out.0.add(at), self.head_dim) }
    }

    /// `lengths` being the operand of that name, or the queries' ranges.
    fn block(&self, lengths: &[i32], pair: usize, first: usize) -> Block {
        let rows = BLOCK.min(self.length - first);
        let (start, end, real) = match self.ranges {
            true => {
                let ranges = [first, first + rows - 1].map(|row| self.range(lengths, pair, row));
                (ranges[0].start, ranges[1].end, rows)
            }
            false => {
                let keys = lengths[pair / self.heads].clamp(0, self.length as i32) as usize;
                let [before, after] = self.reach();
                let end = keys.min(first + rows + after);
                (first.saturating_sub(before), end, rows.min(keys.saturating_sub(first)))
            }
        };
        let keys = end.saturating_sub(start);
        Block { pair, first, rows, start, keys, width: keys.next_multiple_of(LANES), real }
    }

    /// The keys that a query sees, where that is told.
    fn range(&self, ranges: &[i32], pair: usize, query: usize) -> Range<usize> {
        let at = 2 * (pair / self.heads * self.length + query);
        let [start, end] = [at, at + 1].map(|at| ranges[at].clamp(0, self.keys as i32) as usize);
        start..end
    }

    /// The keys among the block's that a query of it sees.
    fn seen(&self, block: &Block, row: usize, lengths: &[i32]) -> Range<usize> {
        let query = block.first + row;
        if self.ranges {
            let Range { start, end } = self.range(lengths, block.pair, query);
            let [start, end] =
                [start, end].map(|key| key.saturating_sub(block.start).min(block.keys));
            return start.min(end)..end;
        }
        let [before, after] = self.reach();
        let end = block.keys.min((query + 1 + after).saturating_sub(block.start));
        query.saturating_sub(before).saturating_sub(block.start).min(end)..end
    }

    /// Adds the bias to scores, where there is one, which are scaled then. Returns the scale that they still need.
    fn scaled<F: Real>(&self, block: &Block, reads: &Reads<'_, F>, scores: &mut [F]) -> F {
        let scale = F::of(self.scale);
        let Some(bias) = reads.bias else { return scale };
        let pair = block.pair % (self.bias.unwrap_or(1) * self.heads);
        for (row, scores) in scores.chunks_exact_mut(block.width).take(block.rows).enumerate() {
            let at = (pair * self.length + block.first + row) * self.length + block.start;
            let bias = &bias[at..at + block.keys];
            scores.iter_mut().zip(bias).for_each(|(score, &bias)| *score = *score * scale + bias);
        }
        F::one()
    }

    /// a · bᵀ for the block's rows of `a` and all its keys' rows of `b`: of q and k, not yet scaled, or of dout and v.
    /// Padding is a product of its own, as gemm sums small results another way: so a text's scores have the same bits
    /// however long it is padded to be.
    fn scores<F: Real>(&self, block: &Block, a: &[F], b: &[F], scores: &mut Vec<F>) {
        scores.resize(BLOCK * block.width, F::zero());
        let (stride, kv_stride) = (self.stride(), self.kv_stride());
        let (own, base) = (self.at(block.pair, block.first), self.key_at(block.pair, block.start));
        assert!(own + (block.rows - 1) * stride + self.head_dim <= a.len());
        assert!(base + (block.keys - 1) * kv_stride + self.head_dim <= b.len());
        // SAFETY: the last elements of both are asserted above to exist; scores is [BLOCK, width].
        unsafe {
            let b = (b.as_ptr().add(base), 1, kv_stride);
            let both = [0..block.real, block.real..block.rows];
            for rows in both.into_iter().filter(|rows| !rows.is_empty()) {
                let a = (a.as_ptr().add(own + rows.start * stride), stride, 1);
                let target = (scores.as_mut_ptr().add(rows.start * block.width), block.width, 1);
                product([rows.len(), block.keys, self.head_dim], target, false, a, b, 1.0);
            }
        }
    }

    /// Turns scores into weights that are still to be multiplied by what is returned for each row.
    fn softmax<F: Real>(
        &self,
        block: &Block,
        scale: F,
        scratch: &mut Scratch<F>,
        (lengths, lse): (&[i32], &mut [F]),
        state: &StepState,
    ) -> [F; BLOCK] {
        let mut shares = [F::zero(); BLOCK];
        let rows = scratch.weights.chunks_exact_mut(block.width).zip(lse).zip(&mut shares);
        vectorised(
            #[inline(always)]
            || {
                for (row, ((weights, lse), share)) in rows.enumerate() {
                    let seen = self.seen(block, row, lengths);
                    if seen.is_empty() {
                        weights.fill(F::zero());
                        *lse = F::zero();
                        continue;
                    }
                    weights[..seen.start].fill(F::neg_infinity());
                    weights[seen.end..].fill(F::neg_infinity());
                    let (max, sum) = exponentials(weights, scale);
                    *lse = max + sum.ln();
                    *share = F::one() / sum;
                }
            },
        );
        if self.dropout > 0.0 {
            let rows = scratch.weights.chunks_exact_mut(block.width).take(block.rows);
            for (row, weights) in rows.enumerate() {
                self.words(block, row, &mut scratch.words, state);
                let words = &scratch.words;
                self.drop_weights(weights, words);
            }
        }
        shares
    }

    /// Turns scores into kept weights, and dout · vᵀ into the scores' gradients.
    fn score_gradients<F: Real>(
        &self,
        block: &Block,
        scale: F,
        scratch: &mut Scratch<F>,
        (lengths, stats): (&[i32], &[F]),
        state: &StepState,
    ) {
        let Scratch { weights, gradients, words } = scratch;
        let factor = self.factor::<F>();
        let rows =
            weights.chunks_exact_mut(block.width).zip(gradients.chunks_exact_mut(block.width));
        for (row, ((weights, gradients), stats)) in
            rows.zip(stats.chunks_exact(2)).take(block.rows).enumerate()
        {
            let (lse, delta) = (stats[0], stats[1]);
            let seen = self.seen(block, row, lengths);
            if self.dropout > 0.0 {
                self.words(block, row, words, state);
            }
            let words = &*words;
            vectorised(
                #[inline(always)]
                move || {
                    weights[..seen.start].fill(F::neg_infinity());
                    gradients[..seen.start].fill(F::zero());
                    weights[seen.end..].fill(F::neg_infinity());
                    gradients[seen.end..].fill(F::zero());
                    if self.dropout > 0.0 {
                        for ((weight, ds), &word) in weights.iter_mut().zip(gradients).zip(words) {
                            let kept = factor(word);
                            let p = (*weight * scale - lse).fast_exp();
                            *weight = p * kept;
                            *ds = p * (kept * *ds - delta);
                        }
                    } else {
                        for (weight, ds) in weights.iter_mut().zip(gradients) {
                            let p = (*weight * scale - lse).fast_exp();
                            *weight = p;
                            *ds = p * (*ds - delta);
                        }
                    }
                },
            );
        }
    }

    /// The random words of a row of weights.
    fn words(&self, block: &Block, row: usize, words: &mut Vec<u32>, state: &StepState) {
        words.resize(block.width, 0);
        let first = (block.pair * self.length + block.first + row) * self.keys + block.start;
        random::words(state.seed, self.stream, state.step, first as u32, words);
    }

    fn drop_weights<F: Real>(&self, weights: &mut [F], words: &[u32]) {
        let factor = self.factor::<F>();
        vectorised(
            #[inline(always)]
            move || {
                for (weight, &word) in weights.iter_mut().zip(words) {
                    *weight *= factor(word);
                }
            },
        );
    }

    /// What dropout multiplies a weight by, given its random word.
    fn factor<F: Real>(&self) -> impl Fn(u32) -> F + Copy {
        let rate = self.dropout;
        let kept = F::one() / (F::one() - F::of(rate));
        #[inline(always)]
        move |word| if random::unit(word) >= rate { kept } else { F::zero() }
    }
}

/// Σ a · b over the columns of a head.
fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    vectorised(
        #[inline(always)]
        || {
            let (a, a_rest) = a.as_chunks::<LANES>();
            let (b, b_rest) = b.as_chunks::<LANES>();
            let mut sums = [F::zero(); LANES];
            for (a, b) in a.iter().zip(b) {
                for i in 0..LANES {
                    sums[i] += a[i] * b[i];
                }
            }
            let rest: F = a_rest.iter().zip(b_rest).map(|(&a, &b)| a * b).sum();
            folded(sums, |a, b| a + b) + rest
        },
    )
}

/// Puts exp(scale · score - max) in place of each score of a row; returns max and their sum.
#[inline(always)]
fn exponentials<F: Real>(scores: &mut [F], scale: F) -> (F, F) {
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    let mut tops = [F::min_value(); LANES];
    for chunk in &mut *chunks {
        for (top, score) in tops.iter_mut().zip(chunk) {
            *score *= scale;
            *top = if *score > *top { *score } else { *top };
        }
    }
    let max = folded(tops, |a, b| if b > a { b } else { a });
    let mut sums = [F::zero(); LANES];
    for chunk in chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = (*score - max).fast_exp();
            *sum += *score;
        }
    }
    (max, folded(sums, |a, b| a + b))
}

/// Folds lanes in halves.
#[inline(always)]
fn folded<F: Real>(mut lanes: [F; LANES], f: impl Fn(F, F) -> F) -> F {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
