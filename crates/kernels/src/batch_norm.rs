//! Batch normalisation over the rows of a matrix [rows, channels]: all places of all images (Ioffe and Szegedy 2015).

use rayon::prelude::*;

use crate::chain::{self, Chain, Coord, OPERAND_NAMES, Row};
use crate::chunks::{chunk, chunks, tile};
use crate::row::{self, vectorised};
use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

/// Most operands of the chain behind it: a shader binds eight buffers.
pub const MAX_OPERANDS: usize = 3;
const THREADS: usize = 64;

/// What the launches of all of these kernels have in common.
struct Shader<'a> {
    rows: usize,
    channels: usize,
    eps: f32,
    momentum: f32,
    chain: Option<(&'a Chain, Coord)>,
}

impl Shader<'_> {
    fn new(rows: usize, channels: usize, eps: f32) -> Self {
        Self { rows, channels, eps, momentum: 0.0, chain: None }
    }

    fn launch(
        &self,
        entry: &'static str,
        overrides: Vec<(&'static str, f64)>,
        bindings: [Option<usize>; 8],
        workgroups: [u32; 3],
    ) -> Launch {
        let Self { rows, channels, eps, momentum, chain } = *self;
        let mut dims = match chain {
            Some((chain, extent)) => chain.dims(extent),
            None => Chain::default().dims([1, 1, rows as u32, channels as u32]),
        };
        dims.extend([rows, channels, chunk(rows), chunks(rows)].map(|word| word as u32));
        let unbiased = rows as f64 / (rows.max(2) - 1) as f64;
        let numbers = [eps, (1.0 / rows as f64) as f32, momentum, unbiased as f32];
        dims.extend(numbers.map(f32::to_bits));
        let source = Source::of("batch_norm");
        Launch { source, entry, overrides, dims, bindings: bindings.to_vec(), workgroups }
    }

    /// Sums down the columns: of each chunk, or of the chunks.
    fn sum(
        &self,
        entry: &'static str,
        parts: usize,
        bindings: [Option<usize>; 8],
        caps: &Caps,
    ) -> Launch {
        let [columns, lanes] = tile(self.channels);
        let overrides = vec![("COLUMNS", columns as f64), ("LANES", lanes as f64)];
        let groups = parts * self.channels.div_ceil(columns);
        self.launch(entry, overrides, bindings, caps.grid(groups))
    }

    /// A thread for each element.
    fn elements(
        &self,
        entry: &'static str,
        mut overrides: Vec<(&'static str, f64)>,
        bindings: [Option<usize>; 8],
        caps: &Caps,
    ) -> Launch {
        let rounds = caps.rounds();
        overrides.push(("ROUNDS", rounds as f64));
        let groups = (self.rows * self.channels).div_ceil(THREADS * rounds);
        self.launch(entry, overrides, bindings, caps.grid(groups))
    }
}

/// What the twins sum down the columns of chunks of rows, in f64: `add` has a row, its number and the sums [count, channels].
fn column_sums(
    rows: usize,
    channels: usize,
    count: usize,
    add: impl Fn(usize, &mut [f64]) + Sync,
) -> Vec<Vec<f64>> {
    let chunk = chunk(rows);
    let starts: Vec<usize> = (0..rows).step_by(chunk).collect();
    let sums = starts.par_iter().map(|&first| {
        let mut sums = vec![0.0; count * channels];
        (first..rows.min(first + chunk)).for_each(|row| add(row, &mut sums));
        sums
    });
    sums.collect()
}

/// The chunks' sums in their order.
fn total(parts: Vec<Vec<f64>>) -> Vec<f64> {
    let add = |mut sum: Vec<f64>, part: Vec<f64>| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    };
    parts.into_iter().reduce(add).unwrap_or_default()
}

/// A channel's numbers as the twins use them: mean, its rest, 1 / √(variance + eps).
fn normal<F: Real>(moments: &[F], channels: usize, channel: usize, eps: f32) -> [F; 3] {
    let variance = moments[channels + channel] + F::of(eps);
    [moments[channel], moments[2 * channels + channel], F::one() / variance.sqrt()]
}

fn normals<F: Real>(moments: &[F], channels: usize, eps: f32) -> Vec<[F; 3]> {
    (0..channels).map(|channel| normal(moments, channels, channel, eps)).collect()
}

/// Mean and biased variance of each channel of x [rows, channels], as `moments` [3, channels]: a number near the mean, the
/// variance, and what is left of the mean.
///
/// Operands: `x`, `moments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMoments {
    /// Rows, at least 1.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
}

impl BatchMoments {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let Self { rows, channels } = *self;
        let (x, moments) = (args.read(0), args.write(1));
        let means = total(column_sums(rows, channels, 1, |row, sums| {
            let x = &x[row * channels..][..channels];
            vectorised(
                #[inline(always)]
                move || sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.f64()),
            );
        }));
        let means: Vec<f64> = means.iter().map(|sum| sum / rows as f64).collect();
        let squares = total(column_sums(rows, channels, 1, |row, sums| {
            let (x, means) = (&x[row * channels..][..channels], &means);
            vectorised(
                #[inline(always)]
                move || {
                    for ((sum, x), mean) in sums.iter_mut().zip(x).zip(means) {
                        let d = x.f64() - mean;
                        *sum += d * d;
                    }
                },
            );
        }));
        for channel in 0..channels {
            let mean = F::of64(means[channel]);
            moments[channel] = mean;
            moments[channels + channel] = F::of64(squares[channel] / rows as f64);
            moments[2 * channels + channel] = F::of64(means[channel] - mean.f64());
        }
    }
}

impl Kernel for BatchMoments {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let Self { rows, channels } = *self;
        vec![Operand::read("x", rows * channels), Operand::write("moments", 3 * channels)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let shader = Shader::new(self.rows, self.channels, 0.0);
        let mut bindings = [None; 8];
        (bindings[0], bindings[7]) = (Some(0), Some(2));
        let moments = shader.sum("moments_of", chunks(self.rows), bindings, caps);
        (bindings[0], bindings[6]) = (None, Some(1));
        vec![moments, shader.sum("merge", 1, bindings, caps)]
    }

    fn halves(&self) -> Vec<usize> {
        vec![0]
    }

    fn scratch(&self) -> usize {
        3 * chunks(self.rows) * self.channels
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.channels;
        Cost {
            flops: 4 * len as u64,
            bytes_read: bytes(len),
            bytes_written: bytes(3 * self.channels),
        }
    }

    twin!();
}

/// y = chain(x̂ · weight + bias), x̂ = (x - mean) / √(variance + eps).
///
/// Operands: `x` [rows, channels], `moments` [3, channels] of [`BatchMoments`], `weight`, `bias`, the chain's, `out`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Applied to each element before it is stored.
    pub chain: Chain,
    /// The shape that `chain` sees: its product is rows · channels, its last extent the channels.
    pub extent: Coord,
}

impl BatchNorm {
    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let Self { channels, eps, ref chain, extent, .. } = *self;
        let (x, moments, weight, bias) = (args.read(0), args.read(1), args.read(2), args.read(3));
        let operands: Vec<&[F]> = (0..chain.operands.len()).map(|i| args.read(4 + i)).collect();
        let normals = normals(moments, channels, eps);
        let out = args.write(4 + operands.len());
        row::each(out, channels, |row, out| {
            let (x, normals) = (&x[row * channels..][..channels], &normals);
            let values = &mut *out;
            vectorised(
                #[inline(always)]
                move || {
                    let parts = values.iter_mut().zip(x).zip(normals).zip(weight).zip(bias);
                    for ((((out, &x), &[mean, rest, scale]), &weight), &bias) in parts {
                        *out = ((x - mean) - rest) * scale * weight + bias;
                    }
                },
            );
            let coord = chain::place(row, 0, extent);
            chain.apply_row(Row { from: None, values: out }, coord, extent, &operands, state);
        });
    }
}

impl Kernel for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let (len, channels) = (self.rows * self.channels, self.channels);
        let mut operands = vec![
            Operand::read("x", len),
            Operand::read("moments", 3 * channels),
            Operand::read("weight", channels),
            Operand::read("bias", channels),
        ];
        for (i, name) in OPERAND_NAMES.iter().enumerate().take(self.chain.operands.len()) {
            operands.push(Operand::read(name, self.chain.operand_len(i, self.extent)));
        }
        operands.push(Operand::write("out", len));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let used = self.chain.operands.len();
        let mut bindings = [Some(0), Some(1), Some(2), Some(3), None, None, None, Some(4 + used)];
        for operand in 0..used {
            bindings[4 + operand] = Some(4 + operand);
        }
        let mut overrides = self.chain.overrides();
        let folded = self.extent[..2] != [1; 2];
        overrides.push(("FOLDED", f64::from(u8::from(folded))));
        let mut shader = Shader::new(self.rows, self.channels, self.eps);
        shader.chain = Some((&self.chain, self.extent));
        vec![shader.elements("normalise", overrides, bindings, caps)]
    }

    fn halves(&self) -> Vec<usize> {
        let used = self.chain.operands.len();
        [0].into_iter().chain(4..=4 + used).collect()
    }

    fn cost(&self) -> Cost {
        let operands = self.operands();
        let (out, read) = operands.split_last().expect("it writes something");
        let read = read.iter().map(|operand| operand.len).sum();
        let flops = out.len * (4 + self.chain.stages.len());
        Cost { flops: flops as u64, bytes_read: bytes(read), bytes_written: bytes(out.len) }
    }

    twin!();
}

/// The gradients by weight and bias: Σ dy · x̂ and Σ dy over the rows.
///
/// Operands: `x`, `moments`, `dy`, `dweight`, `dbias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormSums {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl BatchNormSums {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let Self { rows, channels, eps } = *self;
        let (x, moments, dy) = (args.read(0), args.read(1), args.read(2));
        let normals = normals(moments, channels, eps);
        let sums = total(column_sums(rows, channels, 2, |row, sums| {
            let at = row * channels;
            let (x, dy, normals) = (&x[at..][..channels], &dy[at..][..channels], &normals);
            let (by_weight, by_bias) = sums.split_at_mut(channels);
            vectorised(
                #[inline(always)]
                move || {
                    let parts = by_weight.iter_mut().zip(by_bias).zip(x).zip(dy).zip(normals);
                    for ((((weight, bias), &x), &dy), &[mean, rest, scale]) in parts {
                        *weight += (dy * ((x - mean) - rest) * scale).f64();
                        *bias += dy.f64();
                    }
                },
            );
        }));
        let (by_weight, by_bias) = sums.split_at(channels);
        for (operand, sums) in [(3, by_weight), (4, by_bias)] {
            args.write(operand).iter_mut().zip(sums).for_each(|(out, &sum)| *out = F::of64(sum));
        }
    }
}

impl Kernel for BatchNormSums {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let (len, channels) = (self.rows * self.channels, self.channels);
        vec![
            Operand::read("x", len),
            Operand::read("moments", 3 * channels),
            Operand::read("dy", len),
            Operand::write("dweight", channels),
            Operand::write("dbias", channels),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let shader = Shader::new(self.rows, self.channels, self.eps);
        let scratch = Some(5);
        let bindings = [Some(0), Some(1), None, None, Some(2), None, None, scratch];
        let sums = shader.sum("gradients", chunks(self.rows), bindings, caps);
        let bindings = [None, None, None, None, None, Some(3), Some(4), scratch];
        vec![sums, shader.sum("add", 1, bindings, caps)]
    }

    fn halves(&self) -> Vec<usize> {
        vec![0, 2]
    }

    fn scratch(&self) -> usize {
        2 * chunks(self.rows) * self.channels
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.channels;
        Cost {
            flops: 6 * len as u64,
            bytes_read: bytes(2 * len),
            bytes_written: bytes(2 * self.channels),
        }
    }

    twin!();
}

/// dx = weight / √(variance + eps) · (dy - Σ dy / rows - x̂ · Σ dy · x̂ / rows), the mean and the variance being those of x.
///
/// Operands: `x`, `moments`, `weight`, `dy`, `dweight` and `dbias` of [`BatchNormSums`], `dx`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormBackward {
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl BatchNormBackward {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let Self { rows, channels, eps } = *self;
        let [x, moments, weight, dy, dweight, dbias] = [0, 1, 2, 3, 4, 5].map(|i| args.read(i));
        let share = F::of64(1.0 / rows as f64);
        let normals = normals(moments, channels, eps);
        row::each(args.write(6), channels, |row, out| {
            let at = row * channels;
            let (x, dy, normals) = (&x[at..][..channels], &dy[at..][..channels], &normals);
            vectorised(
                #[inline(always)]
                move || {
                    let sums = dweight.iter().zip(dbias).zip(weight);
                    let parts = out.iter_mut().zip(x).zip(dy).zip(normals).zip(sums);
                    for ((((out, &x), &dy), &[mean, rest, scale]), sums) in parts {
                        let ((&dweight, &dbias), &weight) = sums;
                        let slope = ((x - mean) - rest) * scale * dweight;
                        *out = weight * scale * (dy - (dbias + slope) * share);
                    }
                },
            );
        });
    }
}

impl Kernel for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        let (len, channels) = (self.rows * self.channels, self.channels);
        vec![
            Operand::read("x", len),
            Operand::read("moments", 3 * channels),
            Operand::read("weight", channels),
            Operand::read("dy", len),
            Operand::read("dweight", channels),
            Operand::read("dbias", channels),
            Operand::write("dx", len),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let shader = Shader::new(self.rows, self.channels, self.eps);
        let bindings = [Some(0), Some(1), Some(2), None, Some(3), Some(4), Some(5), Some(6)];
        vec![shader.elements("input_gradient", Vec::new(), bindings, caps)]
    }

    fn halves(&self) -> Vec<usize> {
        vec![0, 3, 6]
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.channels;
        Cost {
            flops: 8 * len as u64,
            bytes_read: bytes(2 * len + 6 * self.channels),
            bytes_written: bytes(len),
        }
    }

    twin!();
}

/// Running statistics that follow those of batches: r + momentum · (v - r), v being the mean and the variance without bias,
/// rows / (rows - 1) times the biased one. What is no finite number is left out.
///
/// Operands: `moments` [3, channels], `running_mean`, `running_variance`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunningMoments {
    /// Rows of the batch; of a single one the variance has no unbiased form, and the biased one is taken.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Share of the newest batch.
    pub momentum: f32,
}

impl RunningMoments {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let Self { rows, channels, momentum } = *self;
        let moments = args.read(0);
        let unbiased = F::of64(rows as f64 / (rows.max(2) - 1) as f64);
        let follow = |running: &mut [F], value: &dyn Fn(usize) -> F| {
            for (channel, running) in running.iter_mut().enumerate() {
                let value = value(channel);
                if value.is_finite() {
                    *running += F::of(momentum) * (value - *running);
                }
            }
        };
        follow(args.write(1), &|c| moments[c] + moments[2 * channels + c]);
        follow(args.write(2), &|c| moments[channels + c] * unbiased);
    }
}

impl Kernel for RunningMoments {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            Operand::read("moments", 3 * self.channels),
            Operand::update("running_mean", self.channels),
            Operand::update("running_variance", self.channels),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let mut shader = Shader::new(self.rows, self.channels, 0.0);
        shader.momentum = self.momentum;
        let bindings = [None, Some(0), None, None, None, Some(1), Some(2), None];
        let groups = caps.grid(self.channels.div_ceil(THREADS));
        vec![shader.launch("follow", Vec::new(), bindings, groups)]
    }

    fn cost(&self) -> Cost {
        let channels = self.channels;
        Cost {
            flops: 6 * channels as u64,
            bytes_read: bytes(5 * channels),
            bytes_written: bytes(2 * channels),
        }
    }

    twin!();
}
