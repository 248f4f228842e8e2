//! Every kernel over the shapes and settings that have broken kernels before: single elements, odd sizes,
//! sizes just off a tile or a workgroup, large ones, extreme values.

use std::sync::Arc;

use distil_gpu_kernels::chain::{Binary, Chain, Stage};
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::gather::{Gather, sorted_order};
use distil_gpu_kernels::layer_norm::{LayerNorm, LayerNormBackward, LayerNormFinish};
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
use distil_gpu_kernels::roof::Roof;
use distil_gpu_kernels::softmax::Softmax;
use distil_gpu_kernels::{Caps, DType, Halved, Kernel, StepState};

pub use super::attention_cases::attention;
pub use super::block_cases::in_blocks;
pub use super::f16_cases::{cooperative, halved, stored};
pub use super::feature_cases::{feature_loss, relation_loss};
use super::kernel::{Data, filled, run_kernel};
pub use super::layer_cases::{columns, glu, relative_gather, rotary, sample, scatter};
pub use super::loss_cases::{distill_loss, loss_data, loss_state, pointwise_data, pointwise_loss};
use super::numbers::{random, random_in, rounded_to_f16};
use super::oracle;
pub use super::part_cases::parts;
pub use super::registry::all;
pub use super::update_cases::{
    add_to, grad_norm, loss_scale, max_norm, optimizer, rules, update_state,
};
pub use super::vision_cases::{batch_norm, conv, depthwise, pool};
use crate::device::Device;
use crate::error::Error;

/// One kernel with what it is given.
#[derive(Clone, Debug)]
pub struct Case {
    /// The kernel, as devices run it.
    pub kernel: Arc<dyn Kernel>,
    /// The step it runs in.
    pub state: StepState,
    /// Its operands.
    pub data: Vec<Data>,
}

impl Case {
    /// A kernel with its operands, in no particular step.
    pub fn new(kernel: impl Kernel + 'static, data: Vec<Data>) -> Self {
        Self { kernel: Arc::new(kernel), state: StepState::default(), data }
    }

    /// A kernel over random numbers in `low..high`.
    pub fn random(kernel: impl Kernel + 'static, low: f64, high: f64) -> Self {
        Self::filled(Arc::new(kernel), low, high)
    }

    /// The same of a kernel that is shared.
    pub fn filled(kernel: Arc<dyn Kernel>, low: f64, high: f64) -> Self {
        if let Some((whole, halves)) = kernel.whole() {
            return Self::filled(whole, low, high).with_halves(halves.to_vec());
        }
        let data = filled(&*kernel, low, high);
        Self { kernel, state: StepState::default(), data }
    }

    /// With examples that are whole: no position is padding.
    pub fn unpadded(mut self) -> Self {
        for (operand, data) in self.kernel.operands().iter().zip(&mut self.data) {
            if let ("lengths", Data::Integers(lengths)) = (operand.name, data) {
                lengths.fill(i32::MAX);
            }
        }
        self
    }

    /// In a step of this state.
    pub fn at(self, state: StepState) -> Self {
        Self { state, ..self }
    }

    /// With these operands in f16, their data rounded alike.
    pub fn with_halves(mut self, halves: Vec<usize>) -> Self {
        for &half in &halves {
            if let Data::Floats(values) = &mut self.data[half] {
                *values = rounded_to_f16(values);
            }
        }
        Self { kernel: Arc::new(Halved::new(self.kernel, halves)), ..self }
    }

    /// With an operand of whole numbers that bytes are.
    pub fn with_bytes(mut self, operand: usize) -> Self {
        let len = self.kernel.operands()[operand].len;
        let whole = random_in(-127.5, 127.5, len, operand as u32).into_iter().map(f64::round);
        self.data[operand] = Data::Floats(whole.map(|byte| byte.clamp(-127.0, 127.0)).collect());
        self
    }

    /// Whether a device can run it.
    pub fn fits(&self, caps: &Caps) -> bool {
        let reads_f16 = self.kernel.operands().iter().any(|operand| operand.dtype == DType::F16);
        (caps.reads_f16 || !reads_f16) && (caps.f16 || self.kernel.whole().is_none())
    }

    /// Elements of all operands.
    pub fn elements(&self) -> usize {
        self.kernel.operands().iter().map(|operand| operand.len).sum()
    }

    /// What the oracle writes to each operand that the kernel writes.
    ///
    /// # Errors
    /// When the kernel writes behind its operands.
    pub fn expected(&self) -> Result<Vec<Vec<f64>>, Error> {
        let whole = self.kernel.whole().map(|(whole, _)| whole);
        self.found(&mut oracle(), whole.as_ref().unwrap_or(&self.kernel))
    }

    /// What a device writes to them with the kernel, or a variant of it.
    ///
    /// # Errors
    /// When the device refuses or fails.
    pub fn found(
        &self,
        device: &mut dyn Device,
        kernel: &Arc<dyn Kernel>,
    ) -> Result<Vec<Vec<f64>>, Error> {
        run_kernel(device, kernel, &self.state, &self.data)
    }
}

/// A chain over a vector and operands of its length.
pub fn flat(stages: Vec<Stage>, operands: usize, len: u32) -> Elementwise {
    Elementwise {
        extent: [1, 1, 1, len],
        main_strides: Some([0, 0, 0, 1]),
        chain: Chain { stages, operands: vec![[0, 0, 0, 1]; operands] },
    }
}

/// A vector with a NaN.
pub(super) fn spoilt(len: usize) -> Data {
    let mut values = random(len, 3);
    values[len / 3] = f64::NAN;
    Data::Floats(values)
}

/// Every stage; broadcasts and chains; single elements and grids that have to be folded.
pub fn elementwise() -> Vec<Case> {
    let signed = [
        Stage::Relu,
        Stage::GeluErf,
        Stage::GeluTanh,
        Stage::Tanh,
        Stage::Sigmoid,
        Stage::Relu6,
        Stage::HardSwish,
        Stage::Silu,
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
        Stage::Binary(Binary::Relu6Grad, 0),
        Stage::Binary(Binary::HardSwishGrad, 0),
        Stage::Binary(Binary::SiluGrad, 0),
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
    let mut cases = Vec::new();
    for (stages, low, high) in [(&signed[..], -4.0, 4.0), (&positive[..], 0.1, 5.0)] {
        for &stage in stages {
            let kernel = flat(vec![stage], usize::from(stage.operand().is_some()), 1031);
            cases.push(Case::random(kernel, low, high).at(state));
        }
    }
    // Beyond the kinks on both sides.
    for stage in [Stage::Relu6, Stage::HardSwish, Stage::Binary(Binary::Relu6Grad, 0)] {
        let kernel = flat(vec![stage], usize::from(stage.operand().is_some()), 1031);
        cases.push(Case::random(kernel, -9.0, 9.0));
    }
    let stages = vec![
        Stage::Binary(Binary::Mul, 0),
        Stage::Binary(Binary::Add, 1),
        Stage::Relu,
        Stage::Affine { scale: 0.5, offset: 2.0 },
        Stage::Dropout { rate: 0.5, stream: 1 },
        Stage::Binary(Binary::ReverseSub, 2),
    ];
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
        cases.push(Case::random(kernel, -2.0, 2.0).at(state));
    }
    let dropped = vec![Stage::Dropout { rate: 0.2, stream: 9 }, Stage::Tanh];
    for (extent, stages) in [
        ([1, 1, 1, 1], vec![Stage::Square]),
        ([1, 1, 1, 63], vec![]),
        ([1, 1, 1, 65], vec![]),
        ([1, 1, 300, 3], vec![Stage::Sigmoid]),
        ([1, 1, 2, 40_000], dropped),
        // More workgroups than one dimension of a grid holds.
        ([1, 1, 1, 5_000_001], vec![Stage::Relu]),
    ] {
        let strides = [0, 0, extent[3], 1];
        let chain = Chain { stages, operands: vec![] };
        let kernel = Elementwise { extent, main_strides: Some(strides), chain };
        cases.push(Case::random(kernel, -2.0, 2.0).at(state));
    }
    let chain = Chain {
        stages: vec![Stage::Fill(1.5), Stage::Binary(Binary::Mul, 0)],
        operands: vec![[0, 0, 0, 1]],
    };
    let constant = Elementwise { extent: [1, 1, 7, 9], main_strides: None, chain };
    cases.push(Case::random(constant, -2.0, 2.0));
    let relu = flat(vec![Stage::Relu], 0, 50);
    cases.push(Case::new(relu, vec![spoilt(50), Data::Unwritten]));
    cases
}

/// Epilogues over a product whose rows are seen as [outer, middle, inner, n].
pub fn epilogues(extent: [u32; 4]) -> Vec<Chain> {
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

pub(super) const LAYOUTS: [(bool, bool); 4] =
    [(false, false), (false, true), (true, false), (true, true)];

/// Every layout and size; batches, shared operands and epilogues.
pub fn matmul() -> Vec<Case> {
    let mut cases = Vec::new();
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
            (128, 300, 785),
        ] {
            cases.push(Case::random(Matmul::new(m, n, k, trans_a, trans_b), -1.0, 1.0));
        }
    }
    for (m, n, k) in [(5, 7, 3), (130, 68, 20)] {
        let kernel = Matmul { accumulate: true, ..Matmul::new(m, n, k, true, false) };
        cases.push(Case::random(kernel, -1.0, 1.0));
    }
    // Enough blocks for the largest tile.
    cases.push(Case::random(Matmul::new(1601, 1536, 33, false, true), -1.0, 1.0));
    // Few outputs, each a long sum: split.
    let split = Matmul::new(36, 132, 4096, true, false);
    let onto = Matmul { accumulate: true, ldc: Some(140), ..Matmul::new(68, 20, 256, true, false) };
    cases.push(Case::random(split, -1.0, 1.0));
    cases.push(Case::random(onto, -1.0, 1.0));
    let extent = [1, 4, 9, 20];
    for chain in epilogues(extent) {
        let kernel = Matmul { chain, extent, ..Matmul::new(36, 20, 1024, true, false) };
        cases.push(Case::random(kernel, -1.0, 1.0));
    }
    let state = StepState { seed: 11, step: 2, ..StepState::default() };
    let shared = [(false, false), (false, true), (true, false), (true, true)];
    // A shader for every layout and epilogue is more than drivers compile in minutes: each meets each by turns.
    for (turn, (m, n, k)) in [(6, 12, 5), (36, 7, 10)].into_iter().enumerate() {
        let extent = [3, 2, m as u32 / 2, n as u32];
        let chains = epilogues(extent).into_iter().cycle().skip(turn);
        for ((layout, (shared_a, shared_b)), chain) in LAYOUTS.into_iter().zip(shared).zip(chains) {
            let plain = Matmul::new(m, n, k, layout.0, layout.1);
            let kernel = Matmul { batch: 3, shared_a, shared_b, chain, extent, ..plain };
            cases.push(Case::random(kernel, -1.0, 1.0).at(state));
        }
    }
    cases
}

/// Every operation, along the last axis and along others.
pub fn reduce() -> Vec<Case> {
    let mut cases = Vec::new();
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
                // Around 0.5, so that the sum is no small difference of large parts.
                let kernel = Reduce { op, outer, len, inner, accumulate };
                cases.push(Case::random(kernel, -1.0, 2.0));
            }
        }
    }
    for [outer, len, inner] in [[3, 50, 1], [1, 30, 5]] {
        for op in [ReduceOp::Sum, ReduceOp::Max] {
            let kernel = Reduce { op, outer, len, inner, accumulate: false };
            cases.push(Case::new(kernel, vec![spoilt(outer * len * inner), Data::Unwritten]));
        }
    }
    cases
}

/// Both ways; masks and huge numbers.
pub fn softmax() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (5, 10), (3, 31), (3, 257), (200, 17), (200, 20), (2, 20_000)] {
        for backward in [false, true] {
            cases.push(Case::random(Softmax { rows, cols, backward }, -8.0, 8.0));
        }
    }
    let inf = f64::INFINITY;
    let x = [[1e4, 1e4, -1e4, -inf], [-inf, -1e30, 2.0, 2.0], [-3e38, -3e38, -3e38, -3e38]];
    for cols in [4, 5] {
        let row = |row: &[f64; 4]| row.iter().copied().chain([-inf]).take(cols).collect::<Vec<_>>();
        let x = Data::Floats(x.iter().flat_map(row).collect());
        let masked = Softmax { rows: 3, cols, backward: false };
        cases.push(Case::new(masked, vec![x, Data::Unwritten]));
    }
    for cols in [30, 32] {
        let lost = Softmax { rows: 2, cols, backward: false };
        cases.push(Case::new(lost, vec![spoilt(2 * cols), Data::Unwritten]));
    }
    cases
}

/// Both ways; runs of every length, tables of one row and of a vocabulary's, ids that name nothing.
pub fn gather() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, table_rows, cols) in [
        (1, 1, 1),
        (5, 3, 2),
        (100, 1, 70),
        (700, 2, 33),
        (300, 40, 17),
        (130, 5000, 9),
        (64, 70_000, 3),
        (2048, 30_522, 384),
    ] {
        for (backward, accumulate) in [(false, false), (true, false), (true, true)] {
            let whole = Gather::new(rows, table_rows, cols);
            let kernel = Gather { backward, accumulate, ..whole };
            cases.push(Case::random(kernel, -1.0, 2.0));
        }
    }
    // A run of 32 is summed by one thread, one of 33 by many; both ends of the order, and the ids' range.
    let lens = [(-1, 40), (0, 33), (1, 32), (3, 1), (4, 31), (6, 64), (i32::MAX, 2), (i32::MIN, 5)];
    let ids: Vec<i32> = lens.iter().flat_map(|&(id, len)| vec![id; len]).collect();
    let (rows, order) = (ids.len(), sorted_order(&ids));
    for table_rows in [5, 7, 8] {
        let accumulate = table_rows == 7;
        let whole = Gather::new(rows, table_rows, 20);
        let kernel = Gather { backward: true, accumulate, ..whole };
        let dy = Data::Floats(random_in(-1.0, 2.0, rows * 20, 1));
        let [ids, order] = [&ids, &order].map(|values| Data::Integers(values.clone()));
        cases.push(Case::new(kernel, vec![dy, ids, order, Data::Unwritten]));
    }
    cases
}

/// Both ways; short rows and long ones, many blocks of rows, rows far from zero.
pub fn layer_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols, mean) in [
        (1, 1, 0.5),
        (7, 1, 0.5),
        (5, 3, 0.5),
        (17, 31, 0.5),
        (1, 384, 0.5),
        (40, 384, 1e4),
        (300, 65, -100.0),
        (9, 4096, 1e4),
        (2, 5000, 0.5),
        (5000, 20, 0.5),
        (5000, 20, 1e4),
    ] {
        let (x, eps) = (random_in(mean - 1.5, mean + 1.5, rows * cols, 1), 1e-5);
        let [weight, bias] = [2, 3].map(|salt| Data::Floats(random_in(-1.0, 2.0, cols, salt)));
        let stats = Data::Floats(x.chunks(cols).flat_map(|row| row_stats(row, eps)).collect());
        let dy = Data::Floats(random_in(-1.0, 2.0, rows * cols, 4));
        let (x, unwritten) = (Data::Floats(x), || Data::Unwritten);
        let forward = LayerNorm::new(rows, cols, eps as f32);
        let data = vec![x.clone(), weight.clone(), bias, unwritten(), unwritten()];
        cases.push(Case::new(LayerNorm { centred: false, ..forward }, data.clone()));
        cases.push(Case::new(forward, data));
        let backward = LayerNormBackward::new(rows, cols);
        let data = vec![x, weight, stats, dy, unwritten(), unwritten()];
        cases.push(Case::new(LayerNormBackward { centred: false, ..backward }, data.clone()));
        cases.push(Case::new(backward, data));
        let blocks = backward.blocks();
        cases.push(Case::random(LayerNormFinish { blocks, cols }, -1.0, 2.0));
    }
    for cols in [30, 32] {
        let lost = LayerNorm::new(2, cols, 1e-5);
        let [weight, bias] = [2, 3].map(|salt| Data::Floats(random(cols, salt)));
        let data = vec![spoilt(2 * cols), weight, bias, Data::Unwritten, Data::Unwritten];
        cases.push(Case::new(lost, data));
    }
    cases
}

/// Mean and 1 / std of a row, as an f32 device keeps them.
fn row_stats(row: &[f64], eps: f64) -> [f64; 2] {
    let cols = row.len() as f64;
    let mean = row.iter().sum::<f64>() / cols;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols;
    [mean, 1.0 / (variance + eps).sqrt()].map(|stat| f64::from(stat as f32))
}

/// Lengths around a workgroup's.
pub fn roof() -> Vec<Case> {
    let cases = [(1, 4), (63, 8), (65, 100), (5000, 4)];
    cases.map(|(len, rounds)| Case::random(Roof { len, rounds }, -1.0, 1.0)).to_vec()
}
