//! Every kernel and every variant of it against the f64 oracle, on every driver and on the CPU path.
//!
//! A limit is an NMSE. f32 has a unit roundoff of 6e-8, whose square is 3.6e-15: what is above that in a
//! limit comes from the reason it gives. One wrong element in a thousand is an NMSE of 1e-3.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_engine::device::DeviceKind;
use distil_gpu_kernels::chain::{Binary, Chain, Stage};
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::grad_norm::{GradNormFinish, GradNormPartial};
use distil_gpu_kernels::matmul::{Matmul, Tile};
use distil_gpu_kernels::max_norm::MaxNorm;
use distil_gpu_kernels::optimizer::{Optimizer, Rule};
use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
use distil_gpu_kernels::softmax::Softmax;
use distil_gpu_kernels::{Caps, Kernel, StepState, random as counter};
use distil_gpu_tests::{
    Data, Forced, TestDevice, assert_checked_alike, assert_close, check, devices, filled, oracle,
    random, run_kernel, variants,
};

/// One rounding an operation; a driver's exp, log and tanh may be off by some units in the last place.
const ELEMENTWISE: f64 = 1e-12;
/// Sums of up to 65 products: an error of about √k roundoffs.
const MATMUL: f64 = 3e-13;
/// Sums of up to 200,000 numbers in f32, in a tree.
const REDUCE: f64 = 3e-13;
/// exp, and sums of up to 20,000 numbers in f32.
const SOFTMAX: f64 = 1e-12;
/// A few roundings a step, over five steps.
const OPTIMIZER: f64 = 3e-13;
/// A sum of squares, a root and a division.
const NORM: f64 = 1e-13;

fn flat(stages: Vec<Stage>, operands: usize, len: u32) -> Elementwise {
    Elementwise {
        extent: [1, 1, 1, len],
        main_strides: Some([0, 0, 0, 1]),
        chain: Chain { stages, operands: vec![[0, 0, 0, 1]; operands] },
    }
}

#[test]
fn elementwise_has_every_stage() {
    let signed = [
        Stage::Relu,
        Stage::GeluErf,
        Stage::GeluTanh,
        Stage::Tanh,
        Stage::Sigmoid,
        Stage::Exp,
        Stage::Square,
        Stage::Affine { scale: 1.7, offset: -0.3 },
        Stage::Fill(0.4),
        Stage::Dropout { rate: 0.3, stream: 5 },
        Stage::Binary(Binary::Add, 0),
        Stage::Binary(Binary::Sub, 0),
        Stage::Binary(Binary::Mul, 0),
        Stage::Binary(Binary::Max, 0),
        Stage::Binary(Binary::Min, 0),
        Stage::Binary(Binary::ReluGrad, 0),
        Stage::Binary(Binary::GeluErfGrad, 0),
        Stage::Binary(Binary::GeluTanhGrad, 0),
        Stage::Binary(Binary::TanhGrad, 0),
        Stage::Binary(Binary::SigmoidGrad, 0),
        Stage::Binary(Binary::ReverseSub, 0),
    ];
    let positive = [
        Stage::Log,
        Stage::Sqrt,
        Stage::Reciprocal,
        Stage::Binary(Binary::Div, 0),
        Stage::Binary(Binary::ReverseDiv, 0),
    ];
    let state = StepState { seed: 3, step: 9, ..StepState::default() };
    let mut devices = devices();
    for (stages, low, high) in [(&signed[..], -4.0, 4.0), (&positive[..], 0.1, 5.0)] {
        for &stage in stages {
            let kernel = flat(vec![stage], usize::from(stage.operand().is_some()), 1031);
            check(&mut devices, &kernel, &state, &filled(&kernel, low, high), &[ELEMENTWISE]);
        }
    }
}

#[test]
fn elementwise_broadcasts_and_chains() {
    let stages = vec![
        Stage::Binary(Binary::Mul, 0),
        Stage::Binary(Binary::Add, 1),
        Stage::Relu,
        Stage::Affine { scale: 0.5, offset: 2.0 },
        Stage::Dropout { rate: 0.5, stream: 1 },
        Stage::Binary(Binary::ReverseSub, 2),
    ];
    let state = StepState { seed: 1, ..StepState::default() };
    let mut devices = devices();
    let whole = [60, 20, 5, 1];
    // Strides of main and of three operands: whole, broadcast over each axis and several, transposed.
    for [main, x0, x1, x2] in [
        [whole, whole, [0, 0, 0, 1], [0, 0, 1, 0]],
        [[0, 0, 5, 1], [12, 4, 1, 0], [3, 1, 0, 0], [1, 0, 0, 0]],
        [[0; 4], [0, 20, 5, 1], [15, 5, 0, 1], [60, 20, 1, 4]],
        [[60, 20, 1, 4], [0, 1, 0, 3], [0; 4], whole],
    ] {
        let chain = Chain { stages: stages.clone(), operands: vec![x0, x1, x2] };
        let kernel = Elementwise { extent: [2, 3, 4, 5], main_strides: Some(main), chain };
        check(&mut devices, &kernel, &state, &filled(&kernel, -2.0, 2.0), &[ELEMENTWISE]);
    }
    for (extent, stages) in [
        ([1, 1, 1, 1], vec![Stage::Square]),
        ([1, 1, 1, 65], vec![]),
        ([1, 1, 300, 3], vec![Stage::Sigmoid]),
        ([1, 1, 2, 40_000], vec![Stage::Dropout { rate: 0.2, stream: 9 }, Stage::Tanh]),
    ] {
        let strides = [0, 0, extent[3], 1];
        let chain = Chain { stages, operands: vec![] };
        let kernel = Elementwise { extent, main_strides: Some(strides), chain };
        check(&mut devices, &kernel, &state, &filled(&kernel, -2.0, 2.0), &[ELEMENTWISE]);
    }
    let chain = Chain {
        stages: vec![Stage::Fill(1.5), Stage::Binary(Binary::Mul, 0)],
        operands: vec![[0, 0, 0, 1]],
    };
    let constant = Elementwise { extent: [1, 1, 7, 9], main_strides: None, chain };
    check(&mut devices, &constant, &state, &filled(&constant, -2.0, 2.0), &[ELEMENTWISE]);
}

#[test]
fn dropout_masks_are_the_same_bits_everywhere() {
    let extent = [2, 3, 5, 67];
    let len = 2010;
    for device in &mut devices() {
        for (rate, stream, seed, step) in
            [(0.1, 0, 0, 0), (0.5, 7, 1, 99), (0.9, u32::MAX, u32::MAX, 1 << 31)]
        {
            let chain = Chain { stages: vec![Stage::Dropout { rate, stream }], operands: vec![] };
            let kernel = Elementwise { extent, main_strides: Some([0; 4]), chain };
            let state = StepState { seed, step, ..StepState::default() };
            let data = [Data::Floats(vec![1.0]), Data::Unwritten];
            for (variant, kernel) in variants(kernel, &**device) {
                let found = run_kernel(&mut **device, &kernel, &state, &data).remove(0);
                let kept: Vec<bool> = found.iter().map(|&v| v != 0.0).collect();
                let unit = |i| counter::unit(counter::word(seed, stream, step, i));
                let expected: Vec<bool> = (0..len).map(|i| unit(i) >= rate).collect();
                assert_eq!(kept, expected, "{variant} on {}", device.info().name);
            }
        }
    }
}

/// Epilogues over a product whose rows are seen as [outer, middle, inner, n].
fn epilogues(extent: [u32; 4]) -> Vec<Chain> {
    let [_, y, z, n] = extent;
    let rows = [y * z, z, 1, 0];
    let whole = [y * z * n, z * n, n, 1];
    let bias = [0, 0, 0, 1];
    vec![
        Chain::default(),
        Chain { stages: vec![Stage::Binary(Binary::Add, 0), Stage::Relu], operands: vec![bias] },
        Chain {
            stages: vec![
                Stage::Binary(Binary::Add, 0),
                Stage::Dropout { rate: 0.25, stream: 3 },
                Stage::Binary(Binary::Add, 1),
                Stage::GeluTanh,
                Stage::Binary(Binary::Mul, 2),
                Stage::Affine { scale: -2.0, offset: 0.5 },
            ],
            operands: vec![bias, whole, rows],
        },
        Chain {
            stages: vec![Stage::Binary(Binary::ReluGrad, 0), Stage::Binary(Binary::Sub, 1)],
            operands: vec![whole, [0, z * n, 0, 1]],
        },
    ]
}

/// Runs the tile the device takes by itself, and those of `tiles` that can compute the product, in one
/// launch and in one for each row of blocks.
fn check_tiles(devices: &mut [Box<dyn TestDevice>], kernel: &Matmul, tiles: &[Tile]) {
    let data = filled(kernel, -1.0, 1.0);
    let state = StepState { seed: 11, step: 2, ..StepState::default() };
    let alone: Arc<dyn Kernel> = Arc::new(kernel.clone());
    let expected = run_kernel(&mut oracle(), &alone, &state, &data).remove(0);
    for device in devices {
        let own = device.caps();
        let split = Caps { max_workgroups: 1, ..own };
        let mut runs: Vec<Arc<dyn Kernel>> = vec![alone.clone()];
        // The CPU path has no tiles.
        let has_tiles = device.info().kind != DeviceKind::Cpu;
        for tile in tiles.iter().filter(|tile| has_tiles && kernel.fits(tile, &own)) {
            let mut ways =
                vec![kernel.launches_with(tile, &own), kernel.launches_with(tile, &split)];
            ways.dedup();
            runs.extend(ways.into_iter().map(|launches| {
                Arc::new(Forced { kernel: alone.clone(), launches }) as Arc<dyn Kernel>
            }));
        }
        for run in &runs {
            let found = run_kernel(&mut **device, run, &state, &data).remove(0);
            let launches = run.launches(&own);
            let (first, count) = (&launches[0], launches.len());
            let what = format!(
                "{kernel:?} as {count} × {} {:?} on {}",
                first.entry,
                first.consts,
                device.info().name
            );
            assert_close(&what, &found, &expected, MATMUL);
        }
    }
}

const LAYOUTS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[test]
fn matmul_has_every_tile_layout_and_size() {
    let mut devices = devices();
    for (trans_a, trans_b) in LAYOUTS {
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 7),
            (17, 36, 33),
            (1, 64, 31),
            (65, 4, 1),
            (129, 66, 16),
            (257, 129, 65),
            (140, 260, 20),
        ] {
            let kernel = Matmul::new(m, n, k, trans_a, trans_b);
            check_tiles(&mut devices, &kernel, &Tile::ALL);
        }
    }
}

#[test]
fn matmul_is_batched_shared_and_fused() {
    let mut devices = devices();
    let shared = [(false, false), (false, true), (true, false), (true, true)];
    for (m, n, k) in [(6, 12, 5), (36, 7, 10)] {
        for (i, ((trans_a, trans_b), (shared_a, shared_b))) in
            LAYOUTS.into_iter().zip(shared).enumerate()
        {
            let extent = [3, 2, m as u32 / 2, n as u32];
            for (j, chain) in epilogues(extent).into_iter().enumerate() {
                let plain = Matmul::new(m, n, k, trans_a, trans_b);
                let kernel = Matmul { batch: 3, shared_a, shared_b, chain, extent, ..plain };
                // Each tile meets each epilogue, in one of the layouts.
                check_tiles(&mut devices, &kernel, &[Tile::ALL[(i + j) % Tile::ALL.len()]]);
            }
        }
    }
}

#[test]
fn reduce_has_every_operation_and_shape() {
    let mut devices = devices();
    for [outer, len, inner] in [
        [1, 1, 1],
        [3, 7, 1],
        [300, 10, 1],
        [5, 1, 4],
        [2, 9, 33],
        [1, 128, 70],
        [40, 3, 11],
        [2, 5000, 1],
        [1, 200_000, 1],
        [1, 6000, 48],
    ] {
        for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max] {
            for accumulate in [false, true] {
                let kernel = Reduce { op, outer, len, inner, accumulate };
                // Around 0.5, so that the sum is no small difference of large parts.
                let data = filled(&kernel, -1.0, 2.0);
                check(&mut devices, &kernel, &StepState::default(), &data, &[REDUCE]);
            }
        }
    }
}

#[test]
fn nan_is_never_lost() {
    let mut devices = devices();
    let state = StepState::default();
    let spoilt = |len: usize| {
        let mut values = random(len, 3);
        values[len / 3] = f64::NAN;
        Data::Floats(values)
    };
    for [outer, len, inner] in [[3, 50, 1], [1, 30, 5]] {
        for op in [ReduceOp::Sum, ReduceOp::Max] {
            let kernel = Reduce { op, outer, len, inner, accumulate: false };
            let data = [spoilt(outer * len * inner), Data::Unwritten];
            check(&mut devices, &kernel, &state, &data, &[REDUCE]);
        }
    }
    let relu = flat(vec![Stage::Relu], 0, 50);
    check(&mut devices, &relu, &state, &[spoilt(50), Data::Unwritten], &[ELEMENTWISE]);
    let norm = GradNormFinish { partials: 64, max_norm: 1.0 };
    check(&mut devices, &norm, &state, &[spoilt(64), Data::Unwritten], &[NORM]);
    let softmax = Softmax { rows: 2, cols: 30, backward: false };
    check(&mut devices, &softmax, &state, &[spoilt(60), Data::Unwritten], &[SOFTMAX]);
}

#[test]
fn softmax_goes_both_ways() {
    let mut devices = devices();
    for (rows, cols) in [(1, 1), (5, 10), (3, 257), (200, 17), (2, 20_000)] {
        for backward in [false, true] {
            let kernel = Softmax { rows, cols, backward };
            let data = filled(&kernel, -8.0, 8.0);
            check(&mut devices, &kernel, &StepState::default(), &data, &[SOFTMAX]);
        }
    }
}

#[test]
fn softmax_takes_masks_and_huge_numbers() {
    let inf = f64::INFINITY;
    let x = vec![1e4, 1e4, -1e4, -inf, -inf, -1e30, 2.0, 2.0, -3e38, -3e38, -3e38, -3e38];
    let kernel = Softmax { rows: 3, cols: 4, backward: false };
    check(
        &mut devices(),
        &kernel,
        &StepState::default(),
        &[Data::Floats(x), Data::Unwritten],
        &[SOFTMAX],
    );
}

fn rules() -> [Rule; 6] {
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.5, nesterov: true },
        Rule::Adam { beta1, beta2, eps },
        Rule::AdamW { beta1, beta2, eps },
        Rule::AdamW { beta1: 0.0, beta2: 0.5, eps: 1e-3 },
    ]
}

/// Five steps from the same start; what is updated in one step is where the next begins.
fn optimize(
    device: &mut dyn TestDevice,
    kernel: &Arc<dyn Kernel>,
    rule: Rule,
    clip: bool,
) -> Vec<Vec<f64>> {
    let len = kernel.operands()[0].len;
    let mut updated = vec![random(len, 1)];
    updated.resize(1 + rule.moments(), vec![0.0; len]);
    let (beta1, beta2) = match rule {
        Rule::Sgd { .. } => (0.0, 0.0),
        Rule::Adam { beta1, beta2, .. } | Rule::AdamW { beta1, beta2, .. } => (beta1, beta2),
    };
    for step in 0..5 {
        let mut data = vec![Data::Floats(updated.remove(0)), Data::Floats(random(len, 10 + step))];
        data.extend(updated.into_iter().map(Data::Floats));
        data.extend(clip.then(|| Data::Floats(vec![4.0, 0.25])));
        let state = StepState {
            step,
            learning_rate: 0.05,
            bias_correction1: (1.0 - f64::powi(beta1, step as i32 + 1)) as f32,
            bias_correction2: (1.0 - f64::powi(beta2, step as i32 + 1)) as f32,
            ..StepState::default()
        };
        updated = run_kernel(device, kernel, &state, &data);
    }
    updated
}

#[test]
fn optimizers_follow_their_rules_over_several_steps() {
    let mut devices = devices();
    for rule in rules() {
        for clip in [false, true] {
            for (weight_decay, lr_scale, len) in [(0.0, 1.0, 1), (0.01, 0.5, 1003)] {
                let kernel = Optimizer { rule, len, lr_scale, weight_decay, clip };
                let alone: Arc<dyn Kernel> = Arc::new(kernel);
                let expected = optimize(&mut oracle(), &alone, rule, clip);
                for device in &mut devices {
                    for (variant, kernel) in variants(kernel, &**device) {
                        let found = optimize(&mut **device, &kernel, rule, clip);
                        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                            let what =
                                format!("{i} of {variant} {alone:?} on {}", device.info().name);
                            assert_close(&what, found, expected, OPTIMIZER);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gradient_norms_clip() {
    let mut devices = devices();
    let state = StepState::default();
    for len in [1, 255, 10_000, 100_003] {
        let kernel = GradNormPartial::new(len);
        let partial: Arc<dyn Kernel> = Arc::new(kernel);
        let squares: f64 = random(len, 0).iter().map(|g| g * g).sum();
        for device in &mut devices {
            let partials =
                run_kernel(&mut **device, &partial, &state, &filled(&kernel, -1.0, 1.0)).remove(0);
            // How the total is shared out is the device's own affair.
            let what = format!("sum of {kernel:?} on {}", device.info().name);
            assert_close(&what, &[partials.iter().sum()], &[squares], NORM);
        }
    }
    for partials in [1, 64, 1024] {
        for max_norm in [0.5, 1e6] {
            let kernel = GradNormFinish { partials, max_norm };
            check(&mut devices, &kernel, &state, &filled(&kernel, 0.0, 2.0), &[NORM]);
        }
    }
}

#[test]
fn max_norm_bounds_rows() {
    let mut devices = devices();
    for (rows, cols) in [(1, 1), (7, 3), (100, 50), (3, 3000)] {
        // Half of the mean norm of a row, and far above it.
        for bound in [0.3 * (cols as f32).sqrt(), 100.0] {
            let kernel = MaxNorm { rows, cols, bound };
            check(
                &mut devices,
                &kernel,
                &StepState::default(),
                &filled(&kernel, -1.0, 1.0),
                &[NORM],
            );
        }
    }
}

#[test]
fn checked_shaders_give_the_same_bits() {
    let extent = [1, 2, 25, 28];
    let mut samples: Vec<(Arc<dyn Kernel>, Vec<Data>)> = Vec::new();
    let mut sample = |kernel: Arc<dyn Kernel>| {
        let data = filled(&*kernel, 0.1, 1.0);
        samples.push((kernel, data));
    };
    for (tile, chain) in Tile::ALL.iter().zip(epilogues(extent).into_iter().cycle()) {
        let matmul = Matmul { chain, extent, ..Matmul::new(50, 28, 33, false, false) };
        if matmul.fits(tile, &Caps::default()) {
            let launches = matmul.launches_with(tile, &Caps::default());
            sample(Arc::new(Forced { kernel: Arc::new(matmul), launches }));
        }
    }
    sample(Arc::new(flat(vec![Stage::GeluErf, Stage::Dropout { rate: 0.5, stream: 0 }], 0, 999)));
    sample(Arc::new(Reduce { op: ReduceOp::Mean, outer: 5, len: 99, inner: 1, accumulate: true }));
    sample(Arc::new(Reduce { op: ReduceOp::Max, outer: 2, len: 99, inner: 7, accumulate: false }));
    sample(Arc::new(Softmax { rows: 9, cols: 77, backward: false }));
    sample(Arc::new(Softmax { rows: 9, cols: 77, backward: true }));
    sample(Arc::new(GradNormPartial::new(10_000)));
    sample(Arc::new(GradNormFinish { partials: 64, max_norm: 0.5 }));
    sample(Arc::new(MaxNorm { rows: 9, cols: 77, bound: 1.0 }));
    for rule in rules() {
        sample(Arc::new(Optimizer {
            rule,
            len: 333,
            lr_scale: 1.0,
            weight_decay: 0.1,
            clip: true,
        }));
    }
    let state = StepState { learning_rate: 0.1, ..StepState::default() };
    assert_checked_alike(&samples, &state);
}
