//! Mixed precision: which tensors lie in f16 between the kernels.

use std::sync::Arc;

use distil_gpu_kernels::{DType, Halved};

use super::compile::{Draft, Memory};
use crate::layout::ALIGNMENT_BYTES;

/// Of so many scratch tensors, those that every kernel that touches them can have in f16; the kernels have them so from
/// here on. Losses, norms, reductions and what the optimizer needs stay in f32: their kernels take nothing else, or they
/// are no scratch.
pub(super) fn halve(drafts: &mut [Draft], scratch: usize) -> Vec<bool> {
    let mut halves = vec![true; scratch];
    for Draft { kernel, operands, .. } in &*drafts {
        let allowed = kernel.halves();
        for (operand, (memory, offset, _)) in operands.iter().enumerate() {
            let Memory::Scratch(tensor) = *memory else { continue };
            let aligned = DType::F16.bytes_of(*offset).is_multiple_of(ALIGNMENT_BYTES);
            halves[tensor] &= aligned && allowed.contains(&operand);
        }
    }
    for Draft { kernel, operands, .. } in drafts {
        let is_half = |(memory, ..): &(Memory, usize, usize)| match *memory {
            Memory::Scratch(tensor) => halves[tensor],
            Memory::Buffer(..) => false,
        };
        let these: Vec<usize> = (0..operands.len()).filter(|&i| is_half(&operands[i])).collect();
        if !these.is_empty() {
            *kernel = Arc::new(Halved::new(kernel.clone(), these));
        }
    }
    halves
}
