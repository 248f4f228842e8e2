//! Sums that grow in place.

use rayon::prelude::*;

use crate::parts::cuts;
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Part, Real, Source, StepState, bytes, twin,
};

const THREADS: usize = 64;
/// Elements of one CPU task.
const TASK: usize = 1 << 14;

/// sum\[i] += x\[i]: how the gradients of a step's micro-batches add up.
///
/// Operands: `x` \[len], `sum` \[len].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddTo {
    /// Elements.
    pub len: usize,
}

impl AddTo {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let x = args.read(0).par_chunks(TASK);
        args.write(1).par_chunks_mut(TASK).zip(x).for_each(|(sum, x)| {
            sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        });
    }
}

impl Kernel for AddTo {
    fn name(&self) -> &'static str {
        "add_to"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![Operand::read("x", self.len), Operand::update("sum", self.len)]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        vec![Launch {
            source: Source::of("add_to"),
            entry: "add_to",
            overrides: Vec::new(),
            dims: vec![self.len as u32],
            bindings: vec![Some(0), Some(1)],
            workgroups: caps.grid(self.len.div_ceil(THREADS)),
        }]
    }

    fn parts(&self, _operand: usize, most: usize) -> Option<Vec<Part>> {
        let part = |range: std::ops::Range<usize>| {
            Part::new(Self { len: range.len() }, &[(0, range.start), (1, range.start)])
        };
        Some(cuts(self.len, 1, most)?.into_iter().map(part).collect())
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: self.len as u64,
            bytes_read: bytes(2 * self.len),
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
    fn adds_in_place() {
        let len = TASK + 3;
        let x: Vec<f64> = (0..len).map(|i| i as f64).collect();
        let mut sum = vec![0.5; len];
        let args = Args::new(vec![Arg::Read(&x), Arg::Write(&mut sum)]);
        AddTo { len }.run_f64(args, &StepState::default());
        assert!(sum.iter().enumerate().all(|(i, sum)| *sum == i as f64 + 0.5));
    }
}
