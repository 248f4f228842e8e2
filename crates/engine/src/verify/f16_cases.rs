//! Kernels with tensors in f16, or with weights in bytes. The oracle's are rounded alike, so that nothing but the arithmetic, which is f32's, and
//! the rounding of results is compared.

use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::conv::{Conv, Window};
use distil_gpu_kernels::gather::Gather;
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::{Caps, DType, StepState};

use super::cases::{
    self, Case, LAYOUTS, attention, elementwise, epilogues, feature_loss, flat, layer_norm,
    relation_loss,
};
use super::kernel::Data;
use super::numbers::{random_in, rounded_to_f16};

/// Kernels that read and write f16: every so many cases of those in f32, with all in f16 that may be; a few products,
/// each variant of which takes a driver long to compile; results beyond the largest half.
pub fn halved() -> Vec<Case> {
    let sources = [
        (elementwise as fn() -> Vec<Case>, 9),
        (attention, 17),
        (cases::reduce, 6),
        (cases::gather, 5),
        (layer_norm, 4),
        (feature_loss, 5),
        (relation_loss, 8),
        (cases::relative_gather, 3),
        (cases::rotary, 5),
        (cases::glu, 5),
        (cases::columns, 3),
        (cases::conv, 4),
        (cases::depthwise, 5),
        (cases::pool, 7),
        (cases::batch_norm, 6),
    ];
    let mut cases = Vec::new();
    for (source, every) in sources {
        cases.extend(source().into_iter().step_by(every).filter_map(|case| {
            let halves = case.kernel.halves();
            (!halves.is_empty()).then(|| with_halves(case, halves)).flatten()
        }));
    }
    let extent = [1, 1, 33, 7];
    for (chain, halves) in epilogues(extent).into_iter().zip([vec![0, 2], vec![0, 1, 3]]) {
        let product = Matmul { chain, extent, ..Matmul::new(33, 7, 5, false, true) };
        cases.extend(with_halves(Case::random(product, -1.0, 1.0), halves));
    }
    let in_fours = Matmul::new(64, 48, 36, true, false);
    cases.extend(with_halves(Case::random(in_fours, -1.0, 1.0), vec![0, 1, 2]));
    let doubled = flat(vec![Stage::Affine { scale: 2.0, offset: 0.0 }], 0, 1000);
    cases.extend(with_halves(Case::random(doubled, -6e4, 6e4), vec![0, 1]));
    cases
}

/// Products that subgroups multiply in hardware, where the device has any, in floats and in f16: every layout, sizes
/// beside those of the tiles, epilogues, batches, sums onto what is there.
pub fn cooperative(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |product: Matmul| {
        let case = Case::random(product, -1.0, 1.0);
        if caps.cooperative_f16.is_some() {
            let out = case.kernel.operands().len() - 1;
            for other in [1, out].into_iter().filter(|half| case.kernel.halves().contains(half)) {
                cases.extend(with_halves(case.clone(), vec![0, other]));
            }
        }
        if caps.cooperative_f32.is_some() {
            cases.push(case);
        }
    };
    for (trans_a, trans_b) in LAYOUTS {
        for (m, n, k) in [(4, 4, 4), (20, 36, 12), (132, 68, 100), (256, 128, 64)] {
            add(Matmul::new(m, n, k, trans_a, trans_b));
        }
    }
    add(Matmul { b_type: DType::F16, ..Matmul::new(68, 132, 36, false, true) });
    add(Matmul { accumulate: true, ..Matmul::new(68, 132, 36, true, false) });
    // Split.
    add(Matmul::new(68, 36, 1024, true, false));
    let (window, size) = (Window::square(3, 2, 1), [16, 16]);
    let conv = Conv { window, images: 16, size, inputs: 8, outputs: 12, groups: 1 };
    [conv.forward(), conv.input_gradient(), conv.weight_gradient()].into_iter().for_each(&mut add);
    let extent = [3, 2, 18, 12];
    for chain in epilogues(extent) {
        add(Matmul { batch: 3, chain, extent, ..Matmul::new(36, 12, 20, false, false) });
    }
    cases
}

/// The case with operands in f16; none where the data are beyond it.
fn with_halves(case: Case, halves: Vec<usize>) -> Option<Case> {
    let fits = |&half: &usize| match &case.data[half] {
        Data::Floats(values) => {
            let rounded = rounded_to_f16(values);
            values.iter().zip(rounded).all(|(v, r)| v.is_finite() == r.is_finite())
        }
        _ => true,
    };
    halves.iter().all(fits).then(|| case.with_halves(halves))
}

/// Weights in f16 and in bytes: products in every layout, of odd numbers of them too, in batches and with epilogues; rows of
/// tables.
pub fn stored() -> Vec<Case> {
    [DType::F16, DType::I8].into_iter().flat_map(stored_in).collect()
}

fn stored_in(b_type: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    // Bytes are whole numbers.
    let with_weights = |case: Case, operand: usize| match b_type {
        DType::I8 => case.with_bytes(operand),
        _ => case,
    };
    let half =
        |m, n, k, (trans_a, trans_b)| Matmul { b_type, ..Matmul::new(m, n, k, trans_a, trans_b) };
    // A product reads bytes where B is transposed, so that the scale of a row is that of a column.
    let layouts = LAYOUTS.into_iter().filter(|(_, trans_b)| b_type == DType::F16 || *trans_b);
    for layout in layouts.clone() {
        for (m, n, k) in
            [(1, 1, 1), (3, 5, 7), (17, 36, 33), (65, 4, 1), (140, 260, 20), (128, 300, 785)]
        {
            cases.push(with_weights(Case::random(half(m, n, k, layout), -1.0, 1.0), 1));
        }
    }
    // Enough blocks for the largest tile.
    cases.push(with_weights(Case::random(half(1601, 1536, 33, (false, true)), -1.0, 1.0), 1));
    // The smallest halves, all of them below the normal ones; and the largest.
    for bound in [6e-5, 65504.0].into_iter().filter(|_| b_type == DType::F16) {
        let mut case = Case::random(half(20, 36, 8, (false, true)), -1.0, 1.0);
        case.data[1] = Data::Floats(random_in(-bound, bound, 36 * 8, 1));
        cases.push(case);
    }
    let state = StepState { seed: 11, step: 2, ..StepState::default() };
    let extent = [3, 2, 18, 7];
    let shared = [false, true, true, false];
    for ((layout, shared_b), chain) in layouts.zip(shared).zip(epilogues(extent)) {
        let kernel = Matmul { batch: 3, shared_b, chain, extent, ..half(36, 7, 10, layout) };
        cases.push(with_weights(Case::random(kernel, -1.0, 1.0).at(state), 1));
    }
    for (rows, table_rows, cols) in
        [(1, 1, 1), (5, 3, 2), (700, 2, 33), (130, 5000, 9), (2048, 30_522, 384)]
    {
        let kernel = Gather { table_type: b_type, ..Gather::new(rows, table_rows, cols) };
        cases.push(with_weights(Case::random(kernel, -1.0, 2.0), 0));
    }
    cases
}
