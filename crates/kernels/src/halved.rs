//! A kernel with some of its tensors in f16.

use std::sync::Arc;

use crate::matmul::STORED_FIRST;
use crate::{Args, Caps, Cost, DType, Kernel, Launch, Operand, Part, StepState, Variant};

/// A kernel some of whose operands lie in f16 on a GPU. What it loads becomes f32 at once, and what it makes is rounded
/// when it is stored: the arithmetic in between is the kernel's own, in f32. Devices need [`Caps::f16`].
///
/// The twins take floats, as the kernel's do, for a processor gains nothing from halves: where they have been rounded to
/// f16, a GPU makes the same but for the rounding of its results.
#[derive(Clone, Debug)]
pub struct Halved {
    kernel: Arc<dyn Kernel>,
    /// Which operands, in ascending order.
    halves: Vec<usize>,
}

/// Where parts may start, in elements: a multiple of 256 bytes.
const ALIGNMENT: usize = 256 / 2;

impl Halved {
    /// `kernel` with these operands in f16.
    ///
    /// # Panics
    /// When one is not among the kernel's [`Kernel::halves`].
    pub fn new(kernel: Arc<dyn Kernel>, mut halves: Vec<usize>) -> Self {
        halves.sort_unstable();
        halves.dedup();
        let allowed = kernel.halves();
        assert!(halves.iter().all(|half| allowed.contains(half)), "{halves:?} of {kernel:?}");
        Self { kernel, halves }
    }

    fn half(&self, mut launch: Launch) -> Launch {
        let bindings = (2..).zip(&launch.bindings);
        let is_half = |operand: &Option<usize>| operand.is_some_and(|o| self.halves.contains(&o));
        launch.source.halves =
            bindings.filter(|(_, o)| is_half(o)).map(|(binding, _)| binding).collect();
        if launch.bindings.last().is_some_and(is_half) {
            // What is stored and loaded again would be rounded twice.
            launch.overrides.retain(|(name, _)| *name != STORED_FIRST);
        }
        launch
    }
}

impl Kernel for Halved {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn operands(&self) -> Vec<Operand> {
        let mut operands = self.kernel.operands();
        self.halves.iter().for_each(|&half| operands[half].dtype = DType::F16);
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.kernel.launches(caps).into_iter().map(|launch| self.half(launch)).collect()
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let half = |variant: Variant| Variant {
            launches: variant.launches.into_iter().map(|launch| self.half(launch)).collect(),
            ..variant
        };
        self.kernel.variants_halved(caps, &self.halves).into_iter().map(half).collect()
    }

    fn bucket(&self) -> String {
        format!("{} with {:?} in f16", self.kernel.bucket(), self.halves)
    }

    fn parts(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        let half = |part: Part| {
            let whole: Vec<usize> = part.operands.iter().map(|(whole, _)| *whole).collect();
            let is_half = |&i: &usize| self.halves.contains(&whole[i]);
            let halves: Vec<usize> = (0..whole.len()).filter(is_half).collect();
            let aligned =
                halves.iter().all(|&i| part.operands[i].1.start.is_multiple_of(ALIGNMENT));
            let kernel = Arc::new(Self::new(part.kernel, halves));
            aligned.then_some(Part { kernel, operands: part.operands })
        };
        self.kernel.parts(operand, most)?.into_iter().map(half).collect()
    }

    fn whole(&self) -> Option<(Arc<dyn Kernel>, &[usize])> {
        Some((self.kernel.clone(), &self.halves))
    }

    fn scratch(&self) -> usize {
        self.kernel.scratch()
    }

    fn cost(&self) -> Cost {
        let Cost { flops, mut bytes_read, mut bytes_written } = self.kernel.cost();
        let operands = self.kernel.operands();
        for operand in self.halves.iter().map(|&half| &operands[half]) {
            let saved = DType::F16.bytes_of(operand.len) as u64;
            match operand.access {
                crate::Access::Read => bytes_read = bytes_read.saturating_sub(saved),
                _ => bytes_written = bytes_written.saturating_sub(saved),
            }
        }
        Cost { flops, bytes_read, bytes_written }
    }

    fn run_f32(&self, args: Args<'_, f32>, state: &StepState) {
        self.kernel.run_f32(args, state);
    }

    fn run_f64(&self, args: Args<'_, f64>, state: &StepState) {
        self.kernel.run_f64(args, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::Matmul;

    #[test]
    fn names_the_bindings_that_are_halves() {
        let kernel = Halved::new(Arc::new(Matmul::new(256, 256, 256, false, false)), vec![2, 0]);
        let dtypes: Vec<DType> = kernel.operands().iter().map(|operand| operand.dtype).collect();
        assert_eq!(dtypes, [DType::F16, DType::F32, DType::F16]);
        let launch = kernel.launches(&Caps::default()).remove(0);
        assert_eq!(launch.source.halves, [2, 7]);
        let source = launch.source.link();
        assert!(source.starts_with("enable f16;\n"));
        let types = ["a", "b", "x0", "out"].map(|name| {
            let head = format!("alias {name}_type = ");
            source.split(&head).nth(1).unwrap()[..3].to_owned()
        });
        assert_eq!(types, ["f16", "f32", "f32", "f16"]);
        let whole = Matmul::new(256, 256, 256, false, false).cost();
        assert_eq!(kernel.cost().bytes_written * 2, whole.bytes_written);
        assert_eq!(kernel.cost().bytes_read, whole.bytes_read * 3 / 4);
    }

    #[test]
    fn parts_are_halved_alike() {
        let kernel = Halved::new(Arc::new(Matmul::new(1024, 8, 8, false, false)), vec![0]);
        let parts = kernel.parts(0, 2048).unwrap();
        assert_eq!(parts.len(), 4);
        for part in parts {
            assert_eq!(part.kernel.operands()[0].dtype, DType::F16);
            assert_eq!(part.kernel.operands()[2].dtype, DType::F32);
        }
        // 64 rows of one column start at no multiple of 256 bytes.
        let column = Halved::new(Arc::new(Matmul::new(256, 8, 1, false, false)), vec![0]);
        assert!(column.parts(0, 64).is_none());
    }

    #[test]
    #[should_panic(expected = "[3]")]
    fn refuses_an_operand_that_is_always_f32() {
        _ = Halved::new(Arc::new(Matmul::new(4, 4, 4, false, false)), vec![3]);
    }
}
