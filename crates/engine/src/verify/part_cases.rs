//! Kernels over parts of tensors that a device cannot bind whole.

use distil_gpu_kernels::chain::{Binary, Chain, Stage};
use distil_gpu_kernels::gather::Gather;
use distil_gpu_kernels::grad_norm::GradNormPartial;
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::{DType, Kernel};

use super::cases::Case;

/// The last two parts of kernels, cut at each operand: one in the middle, and one that is no multiple of anything.
pub fn parts() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut cut = |kernel: &dyn Kernel, operands: &[usize], most: usize| {
        for parts in operands.iter().filter_map(|&operand| kernel.parts(operand, most)) {
            cases.extend(
                parts.into_iter().rev().take(2).map(|part| Case::filled(part.kernel, -1.0, 2.0)),
            );
        }
    };
    let chain = Chain { stages: vec![Stage::Binary(Binary::Add, 0)], operands: vec![[0, 0, 0, 1]] };
    for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
        // In fours, and not; rows of A or out may be that, or lie apart by another number.
        for [m, n, k] in [[260, 140, 200], [259, 141, 203], [260, 141, 203]] {
            let kernel = Matmul::new(m, n, k, trans_a, trans_b);
            let kernel = Matmul { chain: chain.clone(), ..kernel };
            cut(&kernel, &[0, 1, 3], 64 * 260);
            cut(&Matmul { b_type: DType::F16, ..kernel }, &[1], 64 * 260);
        }
    }
    for backward in [false, true] {
        for accumulate in [false, true] {
            let gather = Gather { backward, accumulate, ..Gather::new(300, 200, 33) };
            cut(&gather, &[0, 3], 64 * 33);
            if !backward {
                cut(&Gather { cols: 34, table_type: DType::F16, ..gather }, &[0], 64 * 34);
            }
        }
    }
    for len in [100_000, 100_001] {
        cut(&GradNormPartial::new(len), &[0], 40_000);
    }
    cases
}
