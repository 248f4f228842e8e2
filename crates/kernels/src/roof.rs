//! What a device's arithmetic can reach: multiply-adds in registers. No model runs it: it is what other
//! kernels' speed is measured against.

use pulp::{Arch, WithSimd};
use rayon::prelude::*;

use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

const THREADS: usize = 64;
/// Multiply-adds of one element that do not wait for each other.
const CHAINS: usize = 6;
/// Elements that a CPU core works on at once.
const BLOCK: usize = 16;
const FACTOR: f32 = 0.75;
const OFFSET: f32 = 0.125;

/// out\[i] = Σ over six chains of x\[i] · (chain + 1), `rounds` times multiplied by 0.75 and added to 0.125.
///
/// Operands: `x` \[len], `out` \[len].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roof {
    /// Elements.
    pub len: usize,
    /// Multiply-adds of each chain; a multiple of 4.
    pub rounds: usize,
}

/// One block of elements, compiled for the vector instructions that this processor has.
struct Block<'a, F> {
    x: &'a [F],
    out: &'a mut [F],
    rounds: usize,
}

impl<F: Real> WithSimd for Block<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let (factor, offset) = (F::of(FACTOR), F::of(OFFSET));
        for (x, out) in self.x.chunks(BLOCK).zip(self.out.chunks_mut(BLOCK)) {
            let mut v = [[F::zero(); BLOCK]; CHAINS];
            for (chain, v) in v.iter_mut().enumerate() {
                v.iter_mut().zip(x).for_each(|(v, &x)| *v = x * F::of((chain + 1) as f32));
            }
            for _ in 0..self.rounds {
                for v in v.as_flattened_mut() {
                    *v = v.mul_add(factor, offset);
                }
            }
            for (i, out) in out.iter_mut().enumerate() {
                *out = v.iter().map(|v| v[i]).sum();
            }
        }
    }
}

impl Roof {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        const TASK: usize = 64 * BLOCK;
        let arch = Arch::new();
        let tasks = args.write(1).par_chunks_mut(TASK).zip(args.read(0).par_chunks(TASK));
        tasks.for_each(|(out, x)| arch.dispatch(Block { x, out, rounds: self.rounds }));
    }
}

impl Kernel for Roof {
    fn name(&self) -> &'static str {
        "roof"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![Operand::read("x", self.len), Operand::write("out", self.len)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        vec![Launch {
            source: Source::of("roof"),
            entry: "roof",
            overrides: Vec::new(),
            dims: vec![self.len as u32, self.rounds as u32],
            bindings: vec![Some(0), Some(1)],
            workgroups: caps.grid(self.len.div_ceil(THREADS)),
        }]
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: (self.len * CHAINS * (2 * self.rounds + 2)) as u64,
            bytes_read: bytes(self.len),
            bytes_written: bytes(self.len),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    #[test]
    fn is_the_recurrence() {
        let x: Vec<f64> = (0..37).map(|i| f64::from(i) - 11.5).collect();
        let mut out = vec![f64::NAN; 37];
        let kernel = Roof { len: 37, rounds: 8 };
        kernel.run_f64(Args::new(vec![Arg::Read(&x), Arg::Write(&mut out)]), &StepState::default());
        for (x, out) in x.iter().zip(out) {
            // v after n rounds is q^n v + (1 - q^n) / (1 - q) / 8, with q = 3/4.
            let power = 0.75_f64.powi(8);
            let expected = 21.0 * x * power + 6.0 * (1.0 - power) * 0.5;
            assert!((out - expected).abs() < 1e-12, "{out} against {expected}");
        }
    }
}
