//! Gated linear units, and their gradient.

use rayon::prelude::*;

use crate::chain::{gelu_tanh, gelu_tanh_derivative, sigmoid};
use crate::row::vectorised;
use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

const THREADS: usize = 64;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;

/// What a gate goes through: the names are those of the units (Shazeer, "GLU Variants Improve Transformer", 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The sigmoid: GLU.
    Sigmoid,
    /// max(x, 0): ReGLU.
    Relu,
    /// x · Φ(x): GEGLU.
    Gelu,
    /// The same with tanh for Φ.
    GeluTanh,
    /// x · sigmoid(x): SwiGLU.
    Silu,
}

impl Gate {
    fn code(self) -> u32 {
        match self {
            Self::Sigmoid => 0,
            Self::Relu => 1,
            Self::Gelu => 2,
            Self::GeluTanh => 3,
            Self::Silu => 4,
        }
    }
}

/// Where gates and values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// A row is gate and value.
    GateFirst,
    /// A row is value and gate.
    GateLast,
    /// In operands of their own.
    Apart,
}

/// out = act(gate) · value.
///
/// Operands: forward `x` [rows, 2 · half], `out` [rows, half]; backward `x`, `dout` [rows, half], `dx` of x's shape. Where
/// gates and values lie apart: forward `gates`, `out`, `values`; backward `gates`, `dout`, `dgates`, `values`, `dvalues`, all
/// [rows, half].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glu {
    /// Rows.
    pub rows: usize,
    /// Columns of a row of the result, at least 1.
    pub half: usize,
    /// What the gate goes through.
    pub gate: Gate,
    /// Where gates and values lie.
    pub halves: Halves,
    /// Whether this is the gradient.
    pub backward: bool,
}

impl Glu {
    fn run<F: Real>(&self, args: Args<'_, F>, _state: &StepState) {
        match self.gate {
            Gate::Sigmoid => self.run_as(args, sigmoid, |x| {
                let s = sigmoid(x);
                s * (F::one() - s)
            }),
            Gate::Relu => self.run_as(
                args,
                |x| if x < F::zero() { F::zero() } else { x },
                |x| if x > F::zero() { F::one() } else { F::zero() },
            ),
            Gate::Gelu => self.run_as(args, F::gelu, F::gelu_derivative),
            Gate::GeluTanh => self.run_as(args, gelu_tanh, gelu_tanh_derivative),
            Gate::Silu => self.run_as(
                args,
                |x| x * sigmoid(x),
                |x| {
                    let s = sigmoid(x);
                    s + x * s * (F::one() - s)
                },
            ),
        }
    }

    fn run_as<F: Real>(
        &self,
        mut args: Args<'_, F>,
        activated: impl Fn(F) -> F + Copy + Sync,
        slope: impl Fn(F) -> F + Copy + Sync,
    ) {
        if self.halves == Halves::Apart {
            return self.run_apart(args, activated, slope);
        }
        let (half, rows_a_task) = (self.half, TASK_LEN.div_ceil(2 * self.half));
        let rows = args.read(0).par_chunks_exact(2 * half);
        let halves = move |row: &'_ [F]| -> [usize; 2] {
            debug_assert_eq!(row.len(), 2 * half);
            if self.halves == Halves::GateLast { [half, 0] } else { [0, half] }
        };
        if !self.backward {
            let out = args.write(1).par_chunks_exact_mut(half);
            return out.zip(rows).with_min_len(rows_a_task).for_each(|(out, x)| {
                let [gate, value] = halves(x).map(|first| &x[first..][..half]);
                vectorised(
                    #[inline(always)]
                    move || {
                        for ((out, &gate), &value) in out.iter_mut().zip(gate).zip(value) {
                            *out = activated(gate) * value;
                        }
                    },
                );
            });
        }
        let dout = args.read(1).par_chunks_exact(half);
        let dx = args.write(2).par_chunks_exact_mut(2 * half);
        dx.zip(rows).zip(dout).with_min_len(rows_a_task).for_each(|((dx, x), dout)| {
            let [gate, value] = halves(x).map(|first| &x[first..][..half]);
            let (first, last) = dx.split_at_mut(half);
            let (dgate, dvalue) =
                if self.halves == Halves::GateLast { (last, first) } else { (first, last) };
            slopes([gate, value, dout], [dgate, dvalue], activated, slope);
        });
    }

    fn run_apart<F: Real>(
        &self,
        mut args: Args<'_, F>,
        activated: impl Fn(F) -> F + Copy + Sync,
        slope: impl Fn(F) -> F + Copy + Sync,
    ) {
        let gates = args.read(0).par_chunks(TASK_LEN);
        if !self.backward {
            let values = args.read(2).par_chunks(TASK_LEN);
            let out = args.write(1).par_chunks_mut(TASK_LEN).zip(gates).zip(values);
            return out.for_each(|((out, gates), values)| {
                vectorised(
                    #[inline(always)]
                    move || {
                        for ((out, &gate), &value) in out.iter_mut().zip(gates).zip(values) {
                            *out = activated(gate) * value;
                        }
                    },
                );
            });
        }
        let [dout, values] = [1, 2].map(|operand| args.read(operand).par_chunks(TASK_LEN));
        let [dgates, dvalues] = [3, 4].map(|operand| args.write(operand));
        let written = dgates.par_chunks_mut(TASK_LEN).zip(dvalues.par_chunks_mut(TASK_LEN));
        written.zip(gates).zip(values).zip(dout).for_each(
            |((((dgate, dvalue), gate), value), dout)| {
                slopes([gate, value, dout], [dgate, dvalue], activated, slope);
            },
        );
    }
}

/// Gradients of gates and values, of these and the result's gradient.
fn slopes<F: Real>(
    [gate, value, dout]: [&[F]; 3],
    [dgate, dvalue]: [&mut [F]; 2],
    activated: impl Fn(F) -> F + Copy,
    slope: impl Fn(F) -> F + Copy,
) {
    let len = gate.len();
    let (value, dout, dgate, dvalue) =
        (&value[..len], &dout[..len], &mut dgate[..len], &mut dvalue[..len]);
    vectorised(
        #[inline(always)]
        move || {
            for c in 0..len {
                dgate[c] = dout[c] * value[c] * slope(gate[c]);
                dvalue[c] = dout[c] * activated(gate[c]);
            }
        },
    );
}

impl Kernel for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.half;
        let x = Operand::read("x", 2 * len);
        let [gates, values] = ["gates", "values"].map(|name| Operand::read(name, len));
        let dout = Operand::read("dout", len);
        match (self.halves, self.backward) {
            (Halves::Apart, false) => vec![gates, Operand::write("out", len), values],
            (Halves::Apart, true) => {
                let [dgates, dvalues] = ["dgates", "dvalues"].map(|name| Operand::write(name, len));
                vec![gates, dout, values, dgates, dvalues]
            }
            (_, false) => vec![x, Operand::write("out", len)],
            (_, true) => vec![x, dout, Operand::write("dx", 2 * len)],
        }
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let (len, rounds) = (self.rows * self.half, caps.rounds());
        let gate_last = self.halves == Halves::GateLast;
        let [gate, value] = if gate_last { [self.half, 0] } else { [0, self.half] };
        let (entry, bindings) = match (self.halves, self.backward) {
            (Halves::Apart, false) => ("forward_apart", (0..3).map(Some).collect::<Vec<_>>()),
            (Halves::Apart, true) => ("backward_apart", (0..5).map(Some).collect()),
            (_, false) => ("forward", (0..2).map(Some).collect()),
            (_, true) => ("backward", (0..3).map(Some).collect()),
        };
        vec![Launch {
            source: Source::of("glu"),
            entry,
            overrides: vec![("ROUNDS", rounds as f64), ("ACTIVATION", f64::from(self.gate.code()))],
            dims: [len, self.half, gate, value].map(|word| word as u32).to_vec(),
            bindings,
            workgroups: caps.grid(len.div_ceil(THREADS * rounds)),
        }]
    }

    fn halves(&self) -> Vec<usize> {
        (0..self.operands().len()).collect()
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.half;
        if self.backward {
            // Activation and slope; two products and one.
            let (flops, bytes_read) = (5 * len as u64, bytes(3 * len));
            return Cost { flops, bytes_read, bytes_written: bytes(2 * len) };
        }
        Cost { flops: 2 * len as u64, bytes_read: bytes(2 * len), bytes_written: bytes(len) }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, random};

    const GATES: [Gate; 5] = [Gate::Sigmoid, Gate::Relu, Gate::Gelu, Gate::GeluTanh, Gate::Silu];

    fn numbers(len: usize, salt: u32) -> Vec<f64> {
        let unit = |i| 4.0 * f64::from(random::unit(random::word(2, salt, 0, i))) - 2.0;
        (0..len as u32).map(unit).collect()
    }

    fn forward(kernel: Glu, x: &[f64]) -> Vec<f64> {
        let mut out = vec![f64::NAN; kernel.rows * kernel.half];
        let args = Args::new(vec![Arg::Read(x), Arg::Write(&mut out)]);
        Glu { backward: false, ..kernel }.run_f64(args, &StepState::default());
        out
    }

    #[test]
    fn a_gate_opens_its_value() {
        let [gate, value] = [1.5_f64, -0.7];
        let silu = gate / (1.0 + (-gate).exp()) * value;
        let kernel =
            Glu { rows: 1, half: 1, gate: Gate::Silu, halves: Halves::GateFirst, backward: false };
        assert!((forward(kernel, &[gate, value])[0] - silu).abs() < 1e-15);
        let last = Glu { halves: Halves::GateLast, ..kernel };
        assert!((forward(last, &[value, gate])[0] - silu).abs() < 1e-15);
        // As `x[..half] * sigmoid(x[half..])` in PyTorch's `glu`.
        let plain = Glu { gate: Gate::Sigmoid, ..last };
        assert!((forward(plain, &[3.0, 0.0])[0] - 1.5).abs() < 1e-15);
    }

    #[test]
    fn backward_is_the_slope() {
        for gate in GATES {
            for halves in [Halves::GateFirst, Halves::GateLast] {
                let (rows, half) = (3, 5);
                let kernel = Glu { rows, half, gate, halves, backward: true };
                let (x, dout) = (numbers(2 * rows * half, 1), numbers(rows * half, 2));
                let mut dx = vec![f64::NAN; x.len()];
                let args = vec![Arg::Read(&x), Arg::Read(&dout), Arg::Write(&mut dx)];
                kernel.run_f64(Args::new(args), &StepState::default());
                for (i, found) in dx.iter().enumerate() {
                    let at = |step: f64| -> f64 {
                        let mut x = x.clone();
                        x[i] += step;
                        forward(kernel, &x).iter().zip(&dout).map(|(out, d)| out * d).sum()
                    };
                    let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
                    assert!((found - expected).abs() < 1e-8, "{kernel:?} {i}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn apart_is_as_side_by_side() {
        let (rows, half) = (3, 5);
        for gate in GATES {
            let joined = Glu { rows, half, gate, halves: Halves::GateFirst, backward: false };
            let (gates, values) = (numbers(rows * half, 1), numbers(rows * half, 3));
            let dout = numbers(rows * half, 2);
            let rows_of = |x: &[f64]| x.chunks(half).map(<[f64]>::to_vec).collect::<Vec<_>>();
            let pairs = rows_of(&gates).into_iter().zip(rows_of(&values));
            let x: Vec<f64> = pairs.flat_map(|(gate, value)| [gate, value].concat()).collect();
            let apart = Glu { halves: Halves::Apart, ..joined };
            let mut out = vec![f64::NAN; rows * half];
            let args = vec![Arg::Read(&gates), Arg::Write(&mut out), Arg::Read(&values)];
            apart.run_f64(Args::new(args), &StepState::default());
            assert_eq!(out, forward(joined, &x));
            let mut dx = vec![f64::NAN; x.len()];
            let args = vec![Arg::Read(&x), Arg::Read(&dout), Arg::Write(&mut dx)];
            Glu { backward: true, ..joined }.run_f64(Args::new(args), &StepState::default());
            let [mut dgates, mut dvalues] = [0, 0].map(|_| vec![f64::NAN; rows * half]);
            let mut args = vec![Arg::Read(&gates), Arg::Read(&dout), Arg::Read(&values)];
            args.extend([Arg::Write(&mut dgates), Arg::Write(&mut dvalues)]);
            Glu { backward: true, ..apart }.run_f64(Args::new(args), &StepState::default());
            let pairs = rows_of(&dgates).into_iter().zip(rows_of(&dvalues));
            let found: Vec<f64> = pairs.flat_map(|(gate, value)| [gate, value].concat()).collect();
            assert_eq!(found, dx);
        }
    }
}
