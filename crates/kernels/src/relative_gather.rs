//! Scores of relative positions for each pair of tokens, and their gradients.

use rayon::prelude::*;

use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

const THREADS: usize = 64;

/// out\[b, h, i, j\] = content\[h, b, i, m\] + position\[h, b, j, m\], m being the bucket of i - j: the disentangled terms of He
/// et al., "DeBERTa" (2021). Either summand may be left out.
///
/// Operands: forward `buckets` i32 [2 · length - 1], the bucket of each difference i - j from 1 - length on, never falling;
/// `content` and `position` [heads, batch, length, buckets], those that are there; `out` [batch, heads, length, length].
/// Backward `runs` i32 [buckets + 1] as [`runs`] makes it, `dout`, and the gradient of each summand that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeGather {
    /// Examples.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries and keys of an example.
    pub length: usize,
    /// Buckets, at least 1.
    pub buckets: usize,
    /// Whether there are scores of queries with positions.
    pub content: bool,
    /// Whether there are scores of keys with positions.
    pub position: bool,
    /// Whether this is the gradient.
    pub backward: bool,
}

/// For each bucket, and one behind the last, the first of the differences whose bucket is that or a later one.
pub fn runs(buckets_of: &[i32], buckets: usize) -> Vec<i32> {
    let start = |bucket: usize| buckets_of.partition_point(|&known| (known as usize) < bucket);
    (0..=buckets).map(|bucket| start(bucket) as i32).collect()
}

impl RelativeGather {
    /// Differences of two positions.
    fn differences(&self) -> usize {
        2 * self.length - 1
    }

    fn pairs(&self) -> usize {
        self.batch * self.heads * self.length * self.length
    }

    /// Elements of a summand.
    fn scores(&self) -> usize {
        self.batch * self.heads * self.length * self.buckets
    }

    /// The summands that are there, by whether they are of keys.
    fn summands(&self) -> impl Iterator<Item = bool> {
        [(self.content, false), (self.position, true)]
            .into_iter()
            .filter_map(|(is_there, by_keys)| is_there.then_some(by_keys))
    }

    fn run<F: Real>(&self, args: Args<'_, F>, _state: &StepState) {
        if self.backward { self.backward(args) } else { self.forward(args) }
    }

    fn forward<F: Real>(&self, mut args: Args<'_, F>) {
        let (length, buckets) = (self.length, self.buckets);
        let bucket_of: Vec<usize> = {
            let known = args.read_i32(0).iter();
            known.map(|&bucket| (bucket.max(0) as usize).min(buckets - 1)).collect()
        };
        let content = self.content.then(|| args.read(1));
        let position = self.position.then(|| args.read(1 + usize::from(self.content)));
        let out = args.write(1 + self.summands().count());
        out.par_chunks_exact_mut(length).enumerate().for_each(|(row, out)| {
            let (i, pair) = (row % length, row / length);
            let head = pair % self.heads * self.batch + pair / self.heads;
            for (j, out) in out.iter_mut().enumerate() {
                let m = bucket_of[i + length - 1 - j];
                let at = |own: usize| (head * length + own) * buckets + m;
                let mut score = content.map_or(F::zero(), |content| content[at(i)]);
                if let Some(position) = position {
                    score += position[at(j)];
                }
                *out = score;
            }
        });
    }

    fn backward<F: Real>(&self, mut args: Args<'_, F>) {
        let (length, buckets) = (self.length, self.buckets);
        let starts: Vec<usize> = {
            let known = args.read_i32(0).iter();
            known.map(|&start| (start.max(0) as usize).min(self.differences())).collect()
        };
        let dout = args.read(1);
        for (summand, by_keys) in self.summands().enumerate() {
            let rows = args.write(2 + summand).par_chunks_exact_mut(buckets).enumerate();
            rows.for_each(|(row, dx)| {
                let (own, head) = (row % length, row / length);
                let pair = head % self.batch * self.heads + head / self.batch;
                let dout = &dout[pair * length * length..][..length * length];
                let lowest = if by_keys { length - 1 - own } else { own };
                for (m, sum) in dx.iter_mut().enumerate() {
                    let run = starts[m].max(lowest)..starts[m + 1].min(lowest + length);
                    let pair_at = |t: usize| match by_keys {
                        true => (t - lowest) * length + own,
                        false => own * length + (own + length - 1 - t),
                    };
                    *sum = run.map(|t| dout[pair_at(t)]).sum();
                }
            });
        }
    }
}

impl Kernel for RelativeGather {
    fn name(&self) -> &'static str {
        "relative_gather"
    }

    fn operands(&self) -> Vec<Operand> {
        let summand = |by_keys: bool| if by_keys { "position" } else { "content" };
        if self.backward {
            let mut operands = vec![
                Operand::read_i32("runs", self.buckets + 1),
                Operand::read("dout", self.pairs()),
            ];
            let gradient = |by_keys: bool| if by_keys { "dposition" } else { "dcontent" };
            operands.extend(self.summands().map(|by| Operand::write(gradient(by), self.scores())));
            return operands;
        }
        let mut operands = vec![Operand::read_i32("buckets", self.differences())];
        operands.extend(self.summands().map(|by| Operand::read(summand(by), self.scores())));
        operands.push(Operand::write("out", self.pairs()));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let rounds = caps.rounds();
        let launch = |entry, len: usize, overrides: &[(&'static str, bool)], bindings| {
            let dims = [len, self.batch, self.heads, self.length, self.buckets];
            let overrides =
                overrides.iter().map(|&(name, value)| (name, f64::from(u8::from(value))));
            Launch {
                source: Source::of("relative_gather"),
                entry,
                overrides: overrides.chain([("ROUNDS", rounds as f64)]).collect(),
                dims: dims.map(|word| word as u32).to_vec(),
                bindings,
                workgroups: caps.grid(len.div_ceil(THREADS * rounds)),
            }
        };
        if self.backward {
            let summands = self.summands().enumerate();
            return summands
                .map(|(summand, by_keys)| {
                    let bindings = vec![Some(0), Some(1), Some(2 + summand)];
                    launch("sum_runs", self.scores(), &[("BY_KEYS", by_keys)], bindings)
                })
                .collect();
        }
        let content = self.content.then_some(1);
        let position = self.position.then_some(1 + usize::from(self.content));
        let out = Some(1 + self.summands().count());
        let overrides = [("CONTENT", self.content), ("POSITION", self.position)];
        vec![launch("gather", self.pairs(), &overrides, vec![Some(0), content, position, out])]
    }

    fn halves(&self) -> Vec<usize> {
        (1..self.operands().len()).collect()
    }

    /// Backward, a pair is added once to each summand's gradient.
    fn cost(&self) -> Cost {
        let (pairs, summands) = (self.pairs(), self.summands().count());
        if self.backward {
            return Cost {
                flops: (pairs * summands) as u64,
                bytes_read: bytes(self.buckets + 1 + pairs),
                bytes_written: bytes(self.scores() * summands),
            };
        }
        Cost {
            flops: (pairs * (summands - 1)) as u64,
            bytes_read: bytes(self.differences() + self.scores().min(pairs) * summands),
            bytes_written: bytes(pairs),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    fn numbers(len: usize, salt: u32) -> Vec<f64> {
        (0..len as u32)
            .map(|i| f64::from(random::unit(random::word(2, salt, 0, i))) - 0.5)
            .collect()
    }

    /// Buckets that rise unevenly, the first and the last without a difference.
    fn buckets_of(length: usize) -> (Vec<i32>, usize) {
        let known: Vec<i32> = (0..2 * length as i32 - 1).map(|t| 1 + t * t / 5).collect();
        let buckets = known.last().map_or(1, |&last| last as usize + 2);
        (known, buckets)
    }

    #[test]
    fn pairs_find_their_scores_and_gradients_go_back() {
        for (batch, heads, length) in [(1, 1, 1), (2, 3, 4), (1, 2, 7)] {
            let (known, buckets) = buckets_of(length);
            let starts = runs(&known, buckets);
            for (content, position) in [(true, true), (true, false), (false, true)] {
                let kernel = RelativeGather {
                    batch,
                    heads,
                    length,
                    buckets,
                    content,
                    position,
                    backward: false,
                };
                let x = [1, 2].map(|salt| numbers(kernel.scores(), salt));
                let dout = numbers(kernel.pairs(), 3);
                let mut out = vec![f64::NAN; kernel.pairs()];
                let summands = x.iter().zip([content, position]).filter(|(_, is_there)| *is_there);
                let mut args = vec![Arg::ReadI32(&known)];
                args.extend(summands.map(|(x, _)| Arg::Read(x)));
                args.push(Arg::Write(&mut out));
                kernel.run_f64(Args::new(args), &StepState::default());

                let (mut expected, mut gradients) =
                    (vec![0.0; out.len()], [1, 2].map(|_| vec![0.0; kernel.scores()]));
                for (at, expected) in expected.iter_mut().enumerate() {
                    let (pair, i, j) = (at / length / length, at / length % length, at % length);
                    let (b, h) = (pair / heads, pair % heads);
                    let m = known[i + length - 1 - j] as usize;
                    for (summand, (own, is_there)) in
                        [(i, content), (j, position)].into_iter().enumerate()
                    {
                        let place = ((h * batch + b) * length + own) * buckets + m;
                        if is_there {
                            *expected += x[summand][place];
                            gradients[summand][place] += dout[at];
                        }
                    }
                }
                assert_eq!(out, expected);

                let backward = RelativeGather { backward: true, ..kernel };
                let mut found = [1, 2].map(|_| vec![f64::NAN; kernel.scores()]);
                let mut args = vec![Arg::ReadI32(&starts), Arg::Read(&dout)];
                let there = found.iter_mut().zip([content, position]);
                args.extend(there.filter(|(_, is_there)| *is_there).map(|(x, _)| Arg::Write(x)));
                backward.run_f64(Args::new(args), &StepState::default());
                for (summand, is_there) in [content, position].into_iter().enumerate() {
                    let compared = found[summand].iter().zip(&gradients[summand]);
                    let mut compared = compared.filter(|_| is_there);
                    assert!(compared.all(|(found, expected)| (found - expected).abs() < 1e-14));
                }
            }
        }
    }
}
