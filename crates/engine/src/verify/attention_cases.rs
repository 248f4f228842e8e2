//! Attention over the shapes that tiles and masks could break on.

use distil_gpu_kernels::attention::{Attention, packed_ranges};
use distil_gpu_kernels::{Kernel, StepState};

use super::cases::Case;
use super::kernel::{Data, filled};

/// What a query sees, and what is added to its scores.
#[derive(Clone, Copy, Default)]
struct Mask {
    causal: bool,
    window: Option<usize>,
    bias: Option<usize>,
}

/// A kernel over random numbers, with these lengths, or ranges of queries and backward of keys.
fn case(kernel: Attention, mask: &[&[i32]]) -> Case {
    let state = StepState { seed: 5, step: 8, ..StepState::default() };
    let mut data = filled(&kernel, -2.0, 2.0);
    data[3] = Data::Integers(mask[0].to_vec());
    if let Some(key_ranges) = mask.get(1) {
        *data.last_mut().expect("operands") = Data::Integers(key_ranges.to_vec());
    }
    for (operand, data) in kernel.operands().iter().zip(&mut data) {
        // As large as the denominators are, so that the weights made of them are weights.
        if let ("lse", Data::Floats(values)) = (operand.name, data) {
            let keys = (kernel.keys as f64).ln();
            values.iter_mut().for_each(|v| *v = f64::from((keys + 0.3 * *v) as f32));
        }
    }
    Case::new(kernel, data).at(state)
}

/// Both passes over one shape: every head as wide as PyTorch's scale would have it. Where there is a bias, the backward
/// pass with its gradient too.
fn both(
    [batch, length, heads, head_dim]: [usize; 4],
    Mask { causal, window, bias }: Mask,
    dropout: f32,
    lengths: &[i32],
) -> Vec<Case> {
    let scale = 1.0 / (head_dim as f32).sqrt();
    let forward = Attention {
        causal,
        window,
        bias,
        dropout,
        stream: 6,
        ..Attention::new([batch, length, heads, head_dim], scale)
    };
    let case = |kernel| {
        let lengths: Vec<i32> = lengths.iter().copied().cycle().take(batch).collect();
        case(kernel, &[&lengths])
    };
    let backward = Attention { backward: true, ..forward };
    let mut cases = vec![case(forward), case(backward)];
    cases.extend(bias.map(|_| case(Attention { bias_gradient: true, ..backward })));
    cases
}

/// Windows, biases of all examples and of each, and both: around blocks, with queries that see no key. Few head sizes, each
/// with or without dropout, so that shaders serve several cases.
fn masked() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, causal, window, bias, dropout, lengths) in [
        ([1, 1, 1, 8], true, Some(1), Some(1), 0.0, &[1][..]),
        ([2, 7, 2, 8], false, Some(0), None, 0.0, &[7, 3]),
        ([4, 9, 2, 8], true, Some(3), None, 0.0, &[9, 0, 2, 7]),
        ([3, 70, 2, 8], false, Some(9), None, 0.0, &[70, 20, 0]),
        ([2, 140, 1, 64], false, Some(64), None, 0.2, &[140, 33]),
        ([2, 140, 1, 64], true, Some(50), None, 0.2, &[131, 20]),
        ([2, 40, 1, 8], false, Some(500), None, 0.0, &[40, 31]),
        ([4, 7, 3, 5], false, None, Some(1), 0.4, &[7, 0, 3, 9]),
        ([4, 7, 3, 5], true, None, Some(4), 0.4, &[7, 0, 3, -2]),
        ([3, 35, 2, 64], false, None, Some(1), 0.0, &[35, 17, 1]),
        ([2, 66, 2, 64], false, None, Some(2), 0.0, &[66, 40]),
        ([3, 50, 2, 8], false, Some(7), Some(1), 0.0, &[50, 20, 0]),
        ([3, 50, 2, 8], true, Some(7), Some(3), 0.0, &[50, 20, 0]),
    ] {
        cases.extend(both(shape, Mask { causal, window, bias }, dropout, lengths));
    }
    cases
}

/// Keys that are told for each query, and heads that share them: packed texts under a causal mask and under a window, all of
/// a text as encoders see it, and one query against the keys before it.
fn ranges() -> Vec<Case> {
    let mut cases = Vec::new();
    for ([batch, length, heads, head_dim], kv_heads, texts, window, dropout) in [
        ([1, 1, 1, 8], 1, &[1][..], 1, 0.0),
        ([2, 9, 6, 8], 2, &[4, 3, 2], 100, 0.0),
        ([2, 33, 4, 64], 1, &[30, 3], 7, 0.2),
        ([2, 70, 9, 64], 3, &[1, 20, 1, 40, 8], 100, 0.0),
        ([1, 150, 2, 20], 2, &[149, 1], 64, 0.0),
        ([1, 515, 4, 16], 2, &[300, 215], 100_000, 0.1),
        ([2, 21, 2, 256], 1, &[12, 9], 5, 0.0),
    ] {
        let [queries, keys] = packed_ranges(texts, window).map(|ranges| ranges.repeat(batch));
        let scale = 1.0 / (head_dim as f32).sqrt();
        let forward = Attention {
            kv_heads,
            ranges: true,
            dropout,
            stream: 6,
            ..Attention::new([batch, length, heads, head_dim], scale)
        };
        cases.push(case(forward, &[&queries]));
        cases.push(case(Attention { backward: true, ..forward }, &[&queries, &keys]));
    }
    for (batch, keys, heads, kv_heads) in [(1, 1, 1, 1), (3, 70, 4, 2), (5, 130, 9, 3)] {
        let kernel = Attention {
            keys,
            kv_heads,
            ranges: true,
            ..Attention::new([batch, 1, heads, 64], 0.125)
        };
        let ends = (0..batch as i32).flat_map(|b| [0, (keys as i32 - 29 * b).max(b % 2)]);
        cases.push(case(kernel, &[&ends.collect::<Vec<_>>()]));
    }
    cases
}

/// Every head size that changes a tile, lengths around blocks, empty and whole examples, masks, dropout. Drivers take long
/// to compile these shaders, one for each head size with and without dropout or causal mask.
pub fn attention() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, causal, dropout, lengths) in [
        ([1, 1, 1, 1], false, 0.0, &[1][..]),
        ([1, 1, 2, 3], true, 0.0, &[0]),
        ([4, 7, 3, 5], true, 0.4, &[7, 0, 3, 9]),
        ([4, 7, 3, 5], true, 0.4, &[7, 0, 3, -2]),
        ([3, 33, 2, 32], false, 0.1, &[33, 17, 1]),
        ([3, 33, 2, 32], true, 0.0, &[33, 17, 16]),
        ([2, 64, 3, 64], true, 0.3, &[64, 40]),
        ([2, 65, 1, 64], true, 0.3, &[65, 2]),
        ([2, 130, 2, 20], false, 0.0, &[130, 64]),
        ([1, 70, 2, 72], false, 0.2, &[66]),
        ([2, 40, 1, 128], true, 0.0, &[40, 31]),
        ([2, 20, 1, 256], true, 0.0, &[20, 11]),
        ([1, 1030, 1, 16], true, 0.1, &[1025]),
        ([1, 515, 2, 16], true, 0.1, &[515]),
        // More heads than one dimension of a grid holds.
        ([35_000, 2, 2, 1], false, 0.0, &[2, 1, 0]),
    ] {
        cases.extend(both(shape, Mask { causal, ..Mask::default() }, dropout, lengths));
    }
    cases.extend(masked());
    cases.extend(ranges());
    cases
}
