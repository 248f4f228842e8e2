//! Kernels that read weights in f16. The oracle's weights are rounded alike, so that nothing but the arithmetic, which
//! is f32's, is compared.

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::gather::Gather;
use distil_gpu_kernels::matmul::Matmul;

use super::cases::{Case, LAYOUTS, epilogues};
use super::kernel::Data;
use super::numbers::random_in;

/// Products in every layout, of odd numbers of halves too, in batches and with epilogues; rows of tables.
pub fn reads_f16() -> Vec<Case> {
    let mut cases = Vec::new();
    let half = |m, n, k, (trans_a, trans_b)| Matmul {
        half_b: true,
        ..Matmul::new(m, n, k, trans_a, trans_b)
    };
    for layout in LAYOUTS {
        for (m, n, k) in
            [(1, 1, 1), (3, 5, 7), (17, 36, 33), (65, 4, 1), (140, 260, 20), (128, 300, 785)]
        {
            cases.push(Case::random(half(m, n, k, layout), -1.0, 1.0));
        }
    }
    // Enough blocks for the largest tile.
    cases.push(Case::random(half(1601, 1536, 33, (false, true)), -1.0, 1.0));
    // The smallest halves, all of them below the normal ones; and the largest.
    for bound in [6e-5, 65504.0] {
        let mut case = Case::random(half(20, 36, 8, (false, true)), -1.0, 1.0);
        case.data[1] = Data::Floats(random_in(-bound, bound, 36 * 8, 1));
        cases.push(case);
    }
    let state = StepState { seed: 11, step: 2, ..StepState::default() };
    for (layout, shared_b) in LAYOUTS.into_iter().zip([false, true, true, false]) {
        let (m, n, k) = (36, 7, 10);
        let extent = [3, 2, m as u32 / 2, n as u32];
        for chain in epilogues(extent) {
            let kernel = Matmul { batch: 3, shared_b, chain, extent, ..half(m, n, k, layout) };
            cases.push(Case::random(kernel, -1.0, 1.0).at(state));
        }
    }
    for (rows, table_rows, cols) in
        [(1, 1, 1), (5, 3, 2), (700, 2, 33), (130, 5000, 9), (2048, 30_522, 384)]
    {
        let kernel = Gather {
            rows,
            table_rows,
            first: 0,
            cols,
            backward: false,
            accumulate: false,
            half_table: true,
        };
        cases.push(Case::random(kernel, -1.0, 2.0));
    }
    cases
}
