//! Rotary position embeddings, and their gradient.

use rayon::prelude::*;

use crate::row::vectorised;
use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

const THREADS: usize = 64;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;

/// Turns pairs of columns of each head by angles that depend on the position and the pair: Su et al., "RoFormer" (2021).
///
/// Column d < half of a head is paired with column d + half, as in GPT-NeoX, Llama and ModernBERT (`rotate_half`); what
/// is behind 2 · half is copied. Operands: `x` [batch, length, heads · head_dim], `cos` and `sin` [positions, half], `out`
/// of x's shape. The gradient is the `inverse`, of dout in the place of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotary {
    /// Examples.
    pub batch: usize,
    /// Positions of an example.
    pub length: usize,
    /// Heads.
    pub heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Pairs of a head, at least 1 and at most half of its columns.
    pub half: usize,
    /// Rows of the tables, at least `length`.
    pub positions: usize,
    /// Whether it turns by the negative angles.
    pub inverse: bool,
}

/// Cosines and sines [positions, half] of position · theta^(-d / half), computed in f64: what transformers calls
/// `rope_type = "default"`. Of heads of which `2 · half` columns turn.
pub fn angles(positions: usize, half: usize, theta: f64) -> [Vec<f32>; 2] {
    let frequency = |pair: usize| theta.powf(-(pair as f64) / half as f64);
    tables(positions, &(0..half).map(frequency).collect::<Vec<_>>(), 1.0)
}

/// Cosines and sines [positions, frequencies] of position · frequency, times a factor, computed in f64.
pub fn tables(positions: usize, frequencies: &[f64], factor: f64) -> [Vec<f32>; 2] {
    let half = frequencies.len();
    let angle = |at: usize| (at / half) as f64 * frequencies[at % half];
    [f64::cos, f64::sin]
        .map(|f| (0..positions * half).map(|at| (factor * f(angle(at))) as f32).collect())
}

impl Rotary {
    fn len(&self) -> usize {
        self.batch * self.length * self.heads * self.head_dim
    }

    /// Pairs and single columns of a head.
    fn head_units(&self) -> usize {
        self.head_dim - self.half
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let [x, cos, sin] = [0, 1, 2].map(|operand| args.read(operand));
        let width = self.heads * self.head_dim;
        let (half, length) = (self.half, self.length);
        let sign = if self.inverse { -F::one() } else { F::one() };
        let rows = args.write(3).par_chunks_mut(width).zip(x.par_chunks(width)).enumerate();
        rows.with_min_len(TASK_LEN.div_ceil(width)).for_each(|(row, (out, x))| {
            let table = row % length * half..(row % length + 1) * half;
            let (cos, sin) = (&cos[table.clone()], &sin[table]);
            let heads = out.chunks_exact_mut(self.head_dim).zip(x.chunks_exact(self.head_dim));
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in heads {
                        let (out_a, out) = out.split_at_mut(half);
                        let (out_b, out_rest) = out.split_at_mut(half);
                        let (a, x) = x.split_at(half);
                        let (b, rest) = x.split_at(half);
                        for d in 0..half {
                            let sine = sign * sin[d];
                            out_a[d] = a[d] * cos[d] - b[d] * sine;
                            out_b[d] = b[d] * cos[d] + a[d] * sine;
                        }
                        out_rest.copy_from_slice(rest);
                    }
                },
            );
        });
    }
}

impl Kernel for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn operands(&self) -> Vec<Operand> {
        let (len, table) = (self.len(), self.positions * self.half);
        vec![
            Operand::read("x", len),
            Operand::read("cos", table),
            Operand::read("sin", table),
            Operand::write("out", len),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let units = self.batch * self.length * self.heads * self.head_units();
        let rounds = caps.rounds();
        let position_units = self.heads * self.head_units();
        let dims =
            [units, self.length, position_units, self.head_units(), self.half, self.head_dim];
        vec![Launch {
            source: Source::of("rotary"),
            entry: "rotary",
            overrides: vec![
                ("ROUNDS", rounds as f64),
                ("INVERSE", f64::from(u8::from(self.inverse))),
            ],
            dims: dims.map(|word| word as u32).to_vec(),
            bindings: (0..4).map(Some).collect(),
            workgroups: caps.grid(units.div_ceil(THREADS * rounds)),
        }]
    }

    fn halves(&self) -> Vec<usize> {
        vec![0, 3]
    }

    fn cost(&self) -> Cost {
        let pairs = self.batch * self.length * self.heads * self.half;
        Cost {
            flops: 6 * pairs as u64,
            bytes_read: bytes(self.len() + 2 * self.length.min(self.positions) * self.half),
            bytes_written: bytes(self.len()),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    fn run(kernel: Rotary, x: &[f64], [cos, sin]: [&[f64]; 2]) -> Vec<f64> {
        let mut out = vec![f64::NAN; x.len()];
        let args = [x, cos, sin].map(Arg::Read).into_iter().chain([Arg::Write(&mut out)]);
        kernel.run_f64(Args::new(args.collect()), &StepState::default());
        out
    }

    #[test]
    fn pairs_turn_and_turn_back() {
        for (batch, length, heads, head_dim, half) in
            [(1, 1, 1, 2, 1), (2, 5, 3, 8, 4), (2, 3, 2, 7, 2), (1, 4, 1, 9, 3)]
        {
            let positions = length + 2;
            let kernel = Rotary { batch, length, heads, head_dim, half, positions, inverse: false };
            let unit = |i| f64::from(random::unit(random::word(2, 7, 0, i))) - 0.5;
            let x: Vec<f64> = (0..kernel.len() as u32).map(unit).collect();
            let [cos, sin] = angles(positions, half, 100.0);
            let wide = |table: &[f32]| table.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let (cos, sin) = (wide(&cos), wide(&sin));
            let found = run(kernel, &x, [&cos, &sin]);
            for (i, found) in found.iter().enumerate() {
                let (d, position) = (i % head_dim, i / (heads * head_dim) % length);
                let pair = d % half.max(1);
                let angle = position as f64 * 100_f64.powf(-(pair as f64) / half as f64);
                let expected = match d {
                    _ if d < half => x[i] * angle.cos() - x[i + half] * angle.sin(),
                    _ if d < 2 * half => x[i] * angle.cos() + x[i - half] * angle.sin(),
                    _ => x[i],
                };
                assert!((found - expected).abs() < 1e-6, "{kernel:?} {i}: {found}, not {expected}");
            }
            let back = run(Rotary { inverse: true, ..kernel }, &found, [&cos, &sin]);
            assert!(back.iter().zip(&x).all(|(back, x)| (back - x).abs() < 1e-6));
        }
    }

    #[test]
    fn angles_are_exact_far_out() {
        let [cos, sin] = angles(8192, 32, 160_000.0);
        assert_eq!((cos[0], sin[0]), (1.0, 0.0));
        let at = 8191 * 32;
        assert_eq!((cos[at], sin[at]), (8191_f64.cos() as f32, 8191_f64.sin() as f32));
    }
}
