//! Kernels over images: convolutions and their gradients, pools, batch normalisation.

use distil_gpu_kernels::Kernel;
use distil_gpu_kernels::batch_norm::{
    BatchMoments, BatchNorm, BatchNormBackward, BatchNormSums, RunningMoments,
};
use distil_gpu_kernels::chain::{Binary, Chain, Stage};
use distil_gpu_kernels::conv::{Conv, Window};
use distil_gpu_kernels::depthwise::{Depthwise, Pass};
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::pool::{Pool, PoolKind};

use super::cases::Case;
use super::kernel::Data;
use super::numbers::{random, random_in};

/// A window over pixels apart, with padding of its own on each side.
fn window(
    taps: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 4],
) -> Window {
    Window { taps, stride, dilation, padding }
}

/// A convolution, its two gradients and, of one group, a fused end: strides 1 to 3, dilation, groups, uneven padding, windows
/// larger than the image, few and many channels, single places and lines.
pub fn conv() -> Vec<Case> {
    let mut cases = Vec::new();
    let square = Window::square;
    for (window, [images, height, width], [inputs, outputs, groups]) in [
        (square(1, 1, 0), [1, 1, 1], [1, 1, 1]),
        (square(3, 1, 1), [2, 7, 9], [3, 5, 1]),
        (square(3, 2, 1), [2, 9, 8], [4, 8, 1]),
        (square(1, 2, 0), [3, 8, 8], [8, 12, 1]),
        (window([2, 3], [3, 1], [1, 2], [0, 1, 2, 0]), [2, 8, 11], [5, 4, 1]),
        (window([3, 3], [2, 2], [1, 1], [0, 0, 1, 1]), [1, 8, 8], [4, 4, 1]),
        (square(5, 1, 2), [2, 3, 1], [4, 1, 1]),
        (square(3, 1, 1), [2, 6, 5], [8, 12, 4]),
        (square(3, 1, 1), [8, 16, 16], [16, 20, 1]),
    ] {
        let conv = Conv { window, images, size: [height, width], inputs, outputs, groups };
        for product in [conv.forward(), conv.input_gradient(), conv.weight_gradient()] {
            cases.push(Case::random(product, -1.0, 1.0));
        }
    }
    let conv = Conv {
        window: square(3, 2, 1),
        images: 3,
        size: [6, 7],
        inputs: 8,
        outputs: 12,
        groups: 1,
    };
    let stages = vec![Stage::Binary(Binary::Add, 0), Stage::Relu, Stage::Binary(Binary::Mul, 1)];
    for product in [conv.forward(), conv.input_gradient()] {
        let n = product.n as u32;
        let chain = Chain { stages: stages.clone(), operands: vec![[0, 0, 0, 1], [0, 0, n, 1]] };
        cases.push(Case::random(Matmul { chain, accumulate: true, ..product }, -1.0, 1.0));
    }
    cases
}

/// Forward and both gradients; channels in fours and not, windows of up to seven taps, more places than a chunk has.
pub fn depthwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for (window, images, size, channels) in [
        (Window::square(1, 1, 0), 1, [1, 1], 1),
        (Window::square(3, 1, 1), 2, [5, 7], 3),
        (Window::square(3, 2, 1), 3, [8, 9], 8),
        (window([5, 3], [1, 2], [1, 2], [2, 1, 2, 3]), 2, [9, 6], 36),
        (Window::square(7, 1, 3), 2, [14, 14], 48),
        (Window::square(3, 1, 1), 20, [16, 16], 5),
    ] {
        for pass in [Pass::Forward, Pass::Input, Pass::Weights] {
            let kernel = Depthwise { window, images, size, channels, pass };
            cases.push(Case::random(kernel, -1.0, 1.0));
        }
    }
    cases
}

/// Both kinds, forward and backward: windows that overlap and that leave pixels out, padding, ties, NaN.
pub fn pool() -> Vec<Case> {
    let mut cases = Vec::new();
    for (window, images, size, channels) in [
        (Window::square(1, 1, 0), 1, [1, 1], 1),
        (Window::square(2, 2, 0), 2, [7, 8], 3),
        (Window::square(3, 2, 1), 2, [8, 7], 4),
        (Window::square(2, 3, 0), 1, [8, 9], 5),
        (window([3, 2], [1, 2], [1, 1], [1, 0, 1, 1]), 3, [5, 6], 20),
        (Window::square(5, 1, 2), 2, [9, 9], 7),
    ] {
        let kinds = [false, true].map(|count_padding| PoolKind::Mean { count_padding });
        for kind in [PoolKind::Max].into_iter().chain(kinds) {
            for backward in [false, true] {
                let kernel = Pool { window, images, size, channels, kind, backward };
                cases.push(Case::random(kernel, -1.0, 1.0));
            }
        }
    }
    // Whole numbers of three values, so that most windows have several that are largest; and NaN among them.
    let (kind, size) = (PoolKind::Max, [9, 8]);
    for backward in [false, true] {
        let window = Window::square(3, 2, 1);
        let kernel = Pool { window, images: 2, size, channels: 6, kind, backward };
        let mut x: Vec<f64> = random(2 * 72 * 6, 5).into_iter().map(f64::round).collect();
        if !backward {
            x[37] = f64::NAN;
        }
        let operands = kernel.operands();
        let mut data = vec![Data::Floats(x)];
        if backward {
            data.push(Data::Floats(random(operands[1].len, 6)));
        }
        data.push(Data::Unwritten);
        cases.push(Case::new(kernel, data));
    }
    cases
}

/// Statistics, the normalisation with what may be fused behind it, gradients, running statistics; channels far from zero and
/// channels that are constant.
pub fn batch_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    let eps = 1e-5;
    for (rows, channels) in [(2, 1), (5, 3), (65, 4), (300, 33), (129, 70), (5000, 16), (20_000, 2)]
    {
        cases.push(Case::random(BatchMoments { rows, channels }, -1.0, 3.0));
        let (chain, extent) = (Chain::default(), [1, 1, rows as u32, channels as u32]);
        cases.push(Case::random(BatchNorm { rows, channels, eps, chain, extent }, 0.1, 2.0));
        // Around 0.5, so that no sum is a small difference of large parts.
        cases.push(Case::random(BatchNormSums { rows, channels, eps }, 0.1, 2.0));
        cases.push(Case::random(BatchNormBackward { rows, channels, eps }, 0.1, 2.0));
        let kernel = RunningMoments { rows, channels, momentum: 0.1 };
        cases.push(Case::random(kernel, 0.1, 2.0));
    }
    let (rows, channels) = (24, 5);
    let chain = Chain {
        stages: vec![
            Stage::Binary(Binary::Add, 0),
            Stage::HardSwish,
            Stage::Binary(Binary::Mul, 1),
            Stage::Binary(Binary::Sub, 2),
        ],
        operands: vec![[60, 20, 5, 1], [0, 0, 0, 1], [0, 0, 1, 0]],
    };
    let kernel = BatchNorm { rows, channels, eps, chain, extent: [2, 3, 4, 5] };
    cases.push(Case::random(kernel, 0.1, 2.0));
    let (rows, channels) = (1000, 7);
    let far: Vec<f64> = random_in(9998.0, 10_002.0, rows * channels, 3)
        .into_iter()
        .enumerate()
        .map(|(at, v)| if at % channels == 0 { 3.0 } else { f64::from(v as f32) })
        .collect();
    let kernel = BatchMoments { rows, channels };
    cases.push(Case::new(kernel, vec![Data::Floats(far), Data::Unwritten]));
    cases
}
