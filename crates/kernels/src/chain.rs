//! Chains of elementwise stages: the body of [`crate::elementwise`] and the epilogue of
//! [`crate::matmul`]. Twin of `shaders/common/chain.wgsl`.

use crate::row::vectorised;
use crate::{Real, StepState, random};

/// Most stages in one chain.
pub const MAX_STAGES: usize = 6;
/// Most operands of one chain.
pub const MAX_OPERANDS: usize = 3;
/// Coordinates of a tensor: at most four extents, the last fastest.
pub type Coord = [u32; 4];

/// Where column `column` of a row lies, whose number counts the rows of all outer extents.
pub(crate) fn place(row: usize, column: usize, extent: Coord) -> Coord {
    let [_, y, z, _] = extent.map(|extent| extent as usize);
    [row / z / y, row / z % y, row % z, column].map(|coordinate| coordinate as u32)
}

/// One step of a chain. `v` is the running value, `x` the stage's operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// max(v, 0)
    Relu,
    /// v · Φ(v), Hendrycks and Gimpel 2016
    GeluErf,
    /// Their tanh approximation
    GeluTanh,
    /// tanh v
    Tanh,
    /// 1 / (1 + e^-v)
    Sigmoid,
    /// e^v
    Exp,
    /// ln v
    Log,
    /// √v
    Sqrt,
    /// v²
    Square,
    /// 1 / v
    Reciprocal,
    /// scale · v + offset
    Affine {
        /// Factor.
        scale: f32,
        /// Summand.
        offset: f32,
    },
    /// The constant itself, whatever v is
    Fill(f32),
    /// 0 with probability `rate`, else v / (1 - rate); the mask is a function of seed, stream, step, element
    Dropout {
        /// Probability of a zero, in [0, 1).
        rate: f32,
        /// Stream of the generator; a layer's backward uses its forward's.
        stream: u32,
    },
    /// min(max(v, 0), 6)
    Relu6,
    /// v · min(max(v + 3, 0), 6) / 6, Howard et al. 2019
    HardSwish,
    /// v / (1 + e^-v), also called swish
    Silu,
    /// A binary operation with operand number `.1` of the chain
    Binary(Binary, usize),
}

/// Binary operations of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// v + x
    Add,
    /// v - x
    Sub,
    /// v · x
    Mul,
    /// v / x
    Div,
    /// The larger
    Max,
    /// The smaller
    Min,
    /// v where x > 0, else 0; x is relu's input or output
    ReluGrad,
    /// v · gelu'(x), x being gelu's input
    GeluErfGrad,
    /// The same for the tanh approximation
    GeluTanhGrad,
    /// v · (1 - x²), x being tanh's output
    TanhGrad,
    /// v · x (1 - x), x being the sigmoid's output
    SigmoidGrad,
    /// x - v
    ReverseSub,
    /// x / v
    ReverseDiv,
    /// v where 0 < x < 6, else 0; x is relu6's input or output
    Relu6Grad,
    /// v · hardswish'(x), x being hardswish's input
    HardSwishGrad,
    /// v · silu'(x), x being silu's input
    SiluGrad,
}

impl Stage {
    fn code(self) -> u32 {
        match self {
            Self::Relu => 1,
            Self::GeluErf => 2,
            Self::GeluTanh => 3,
            Self::Tanh => 4,
            Self::Sigmoid => 5,
            Self::Exp => 6,
            Self::Log => 7,
            Self::Sqrt => 8,
            Self::Square => 9,
            Self::Reciprocal => 10,
            Self::Affine { .. } => 11,
            Self::Fill(_) => 12,
            Self::Dropout { .. } => 13,
            Self::Relu6 => 14,
            Self::HardSwish => 15,
            Self::Silu => 16,
            Self::Binary(op, _) => match op {
                Binary::Add => 20,
                Binary::Sub => 21,
                Binary::Mul => 22,
                Binary::Div => 23,
                Binary::Max => 24,
                Binary::Min => 25,
                Binary::ReluGrad => 26,
                Binary::GeluErfGrad => 27,
                Binary::GeluTanhGrad => 28,
                Binary::TanhGrad => 29,
                Binary::SigmoidGrad => 30,
                Binary::ReverseSub => 31,
                Binary::ReverseDiv => 32,
                Binary::Relu6Grad => 33,
                Binary::HardSwishGrad => 34,
                Binary::SiluGrad => 35,
            },
        }
    }

    /// The chain operand this stage reads.
    pub fn operand(self) -> Option<usize> {
        match self {
            Self::Binary(_, operand) => Some(operand),
            _ => None,
        }
    }

    fn params(self) -> [u32; 2] {
        match self {
            Self::Affine { scale, offset } => [scale.to_bits(), offset.to_bits()],
            Self::Fill(value) => [value.to_bits(), 0],
            Self::Dropout { rate, stream } => [rate.to_bits(), stream],
            _ => [0, 0],
        }
    }
}

/// Stages in order, and where their operands lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// At most [`MAX_STAGES`].
    pub stages: Vec<Stage>,
    /// Strides of each operand over the output's coordinates (0 where broadcast); at most
    /// [`MAX_OPERANDS`].
    pub operands: Vec<Coord>,
}

const OVERRIDES: [[&str; 2]; MAX_STAGES] = [
    ["STAGE0", "OPERAND0"],
    ["STAGE1", "OPERAND1"],
    ["STAGE2", "OPERAND2"],
    ["STAGE3", "OPERAND3"],
    ["STAGE4", "OPERAND4"],
    ["STAGE5", "OPERAND5"],
];

/// Names of the chain's operands in a shader.
pub const OPERAND_NAMES: [&str; MAX_OPERANDS] = ["x0", "x1", "x2"];

impl Chain {
    /// Whether it drops elements at random.
    pub fn drops(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Dropout { .. }))
    }

    /// Whether it has a stage of many instructions.
    pub fn is_long(&self) -> bool {
        let is_long = |stage: &Stage| match stage {
            Stage::GeluErf
            | Stage::GeluTanh
            | Stage::Tanh
            | Stage::Sigmoid
            | Stage::Silu
            | Stage::Dropout { .. } => true,
            Stage::Binary(op, _) => {
                matches!(op, Binary::GeluErfGrad | Binary::GeluTanhGrad | Binary::SiluGrad)
            }
            _ => false,
        };
        self.stages.iter().any(is_long)
    }

    /// Whether its results may be of quite another size than what goes in.
    pub fn leaves_range(&self) -> bool {
        let leaves = |stage: &Stage| match stage {
            Stage::Exp | Stage::Log | Stage::Sqrt | Stage::Square | Stage::Reciprocal => true,
            Stage::Binary(op, _) => matches!(op, Binary::Div | Binary::ReverseDiv),
            _ => false,
        };
        self.stages.iter().any(leaves)
    }

    /// Whether the chain changes nothing.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The override constants that select the stages.
    pub fn overrides(&self) -> Vec<(&'static str, f64)> {
        let mut overrides = Vec::new();
        for (stage, [code, operand]) in self.stages.iter().zip(OVERRIDES) {
            overrides.push((code, f64::from(stage.code())));
            if let Some(which) = stage.operand() {
                overrides.push((operand, which as f64));
            }
        }
        overrides
    }

    /// The words of the shader's `Chain` struct.
    pub fn dims(&self, extent: Coord) -> Vec<u32> {
        let mut words = extent.to_vec();
        for i in 0..MAX_OPERANDS {
            words.extend(self.operands.get(i).copied().unwrap_or_default());
        }
        for i in 0..MAX_STAGES {
            let params = self.stages.get(i).map_or([0; 2], |stage| stage.params());
            words.extend([params[0], params[1], 0, 0]);
        }
        words
    }

    /// Elements operand `which` must have for this extent.
    pub fn operand_len(&self, which: usize, extent: Coord) -> usize {
        strided_len(extent, self.operands[which])
    }

    /// Applies the chain to a part of one row, whose first element lies at `coord`.
    pub(crate) fn apply_row<F: Real>(
        &self,
        mut row: Row<'_, F>,
        coord: Coord,
        extent: Coord,
        operands: &[&[F]],
        state: &StepState,
    ) {
        for stage in &self.stages {
            match *stage {
                Stage::Relu => row.map(|v| if v < F::zero() { F::zero() } else { v }),
                Stage::GeluErf => row.map(
                    #[inline(always)]
                    |v| v.gelu(),
                ),
                Stage::GeluTanh => row.map(
                    #[inline(always)]
                    |v| gelu_tanh(v),
                ),
                Stage::Tanh => row.map(
                    #[inline(always)]
                    |v| v.fast_tanh(),
                ),
                Stage::Sigmoid => row.map(
                    #[inline(always)]
                    |v| sigmoid(v),
                ),
                Stage::Relu6 => row.map(|v| {
                    let v = if v < F::zero() { F::zero() } else { v };
                    if v > F::of(6.0) { F::of(6.0) } else { v }
                }),
                Stage::HardSwish => row.map(|v| v * hard_sigmoid(v)),
                Stage::Silu => row.map(
                    #[inline(always)]
                    |v| v * sigmoid(v),
                ),
                Stage::Exp => row.map(
                    #[inline(always)]
                    |v| v.fast_exp(),
                ),
                Stage::Log => row.map(F::ln),
                Stage::Sqrt => row.map(F::sqrt),
                Stage::Square => row.map(|v| v * v),
                Stage::Reciprocal => row.map(|v| F::one() / v),
                Stage::Affine { scale, offset } => {
                    let (scale, offset) = (F::of(scale), F::of(offset));
                    row.map(move |v| v * scale + offset);
                }
                Stage::Fill(value) => {
                    let value = F::of(value);
                    row.map(move |_| value);
                }
                Stage::Dropout { rate, stream } => {
                    let [_, y, z, w] = extent;
                    let first = ((coord[0] * y + coord[1]) * z + coord[2]) * w + coord[3];
                    dropout(row.loaded(), rate, stream, first, state);
                }
                Stage::Binary(op, which) => {
                    let [_, _, _, step] = self.operands[which];
                    let base = offset(coord, self.operands[which]);
                    let x = &operands[which][base..];
                    binary(&mut row, op, x, step as usize);
                }
            }
        }
        row.loaded();
    }
}

/// A part of a row that a chain is applied to.
pub(crate) struct Row<'a, F> {
    /// What the chain starts from, where that is not in `values` yet: the first stage reads it, so that memory is
    /// waited for while there is something to compute.
    pub from: Option<&'a [F]>,
    /// The running values.
    pub values: &'a mut [F],
}

impl<F: Real> Row<'_, F> {
    fn loaded(&mut self) -> &mut [F] {
        if let Some(from) = self.from.take() {
            self.values.copy_from_slice(from);
        }
        self.values
    }

    fn map(&mut self, f: impl Fn(F) -> F) {
        let values = &mut *self.values;
        match self.from.take() {
            Some(from) => vectorised(
                #[inline(always)]
                move || {
                    for (v, &from) in values.iter_mut().zip(from) {
                        *v = f(from);
                    }
                },
            ),
            None => vectorised(
                #[inline(always)]
                move || {
                    for v in values {
                        *v = f(*v);
                    }
                },
            ),
        }
    }

    fn zip(&mut self, x: &[F], step: usize, f: impl Fn(F, F) -> F) {
        if step == 0 {
            let x = x[0];
            return self.map(
                #[inline(always)]
                move |v| f(v, x),
            );
        }
        if step > 1 {
            let values = self.loaded().iter_mut().zip(x.iter().step_by(step));
            return values.for_each(|(v, &x)| *v = f(*v, x));
        }
        let values = &mut *self.values;
        match self.from.take() {
            Some(from) => vectorised(
                #[inline(always)]
                move || {
                    for ((v, &from), &x) in values.iter_mut().zip(from).zip(x) {
                        *v = f(from, x);
                    }
                },
            ),
            None => vectorised(
                #[inline(always)]
                move || {
                    for (v, &x) in values.iter_mut().zip(x) {
                        *v = f(*v, x);
                    }
                },
            ),
        }
    }
}

/// Where `coord` lies in a tensor with these strides.
#[inline]
pub(crate) fn offset(coord: Coord, strides: Coord) -> usize {
    coord.iter().zip(strides).map(|(&c, s)| c as usize * s as usize).sum()
}

/// Elements a tensor with these strides must have to cover the extent.
pub(crate) fn strided_len(extent: Coord, strides: Coord) -> usize {
    let last = extent.iter().zip(strides).map(|(&e, s)| e.saturating_sub(1) as usize * s as usize);
    last.sum::<usize>() + 1
}

fn binary<F: Real>(row: &mut Row<'_, F>, op: Binary, x: &[F], step: usize) {
    match op {
        Binary::Add => row.zip(x, step, |v, x| v + x),
        Binary::Sub => row.zip(x, step, |v, x| v - x),
        Binary::Mul => row.zip(x, step, |v, x| v * x),
        Binary::Div => row.zip(x, step, |v, x| v / x),
        Binary::Max => row.zip(x, step, F::max),
        Binary::Min => row.zip(x, step, F::min),
        Binary::ReluGrad => row.zip(x, step, |v, x| if x > F::zero() { v } else { F::zero() }),
        Binary::GeluErfGrad => row.zip(
            x,
            step,
            #[inline(always)]
            |v, x| v * x.gelu_derivative(),
        ),
        Binary::GeluTanhGrad => row.zip(
            x,
            step,
            #[inline(always)]
            |v, x| v * gelu_tanh_derivative(x),
        ),
        Binary::TanhGrad => row.zip(x, step, |v, x| v * (F::one() - x * x)),
        Binary::SigmoidGrad => row.zip(x, step, |v, x| v * (x * (F::one() - x))),
        Binary::ReverseSub => row.zip(x, step, |v, x| x - v),
        Binary::ReverseDiv => row.zip(x, step, |v, x| x / v),
        Binary::Relu6Grad => {
            row.zip(x, step, |v, x| if x > F::zero() && x < F::of(6.0) { v } else { F::zero() })
        }
        Binary::HardSwishGrad => row.zip(x, step, |v, x| v * hard_swish_derivative(x)),
        Binary::SiluGrad => row.zip(
            x,
            step,
            #[inline(always)]
            |v, x| {
                let gate = sigmoid(x);
                v * gate * (F::one() + x * sigmoid(-x))
            },
        ),
    }
}

fn dropout<F: Real>(values: &mut [F], rate: f32, stream: u32, first: u32, state: &StepState) {
    const PART: usize = 256;
    let scale = F::one() / (F::one() - F::of(rate));
    let mut words = [0; PART];
    let mut first = first;
    for values in values.chunks_mut(PART) {
        let words = &mut words[..values.len()];
        random::words(state.seed, stream, state.step, first, words);
        let words = &*words;
        vectorised(
            #[inline(always)]
            move || {
                for (v, &word) in values.iter_mut().zip(words) {
                    *v = if random::unit(word) >= rate { *v * scale } else { F::zero() };
                }
            },
        );
        first = first.wrapping_add(PART as u32);
    }
}

const SQRT_TWO_OVER_PI: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

#[inline(always)]
pub(crate) fn sigmoid<F: Real>(x: F) -> F {
    F::one() / (F::one() + (-x).fast_exp())
}

/// min(max(v + 3, 0), 6) / 6, NaN where v is.
#[inline(always)]
fn hard_sigmoid<F: Real>(v: F) -> F {
    let (low, high) = (F::zero(), F::of(6.0));
    let shifted = v + F::of(3.0);
    let bounded = if shifted < low { low } else { shifted };
    (if bounded > high { high } else { bounded }) / high
}

/// At the kinks, -3 and 3, as PyTorch has it: 0 and 1.
#[inline(always)]
fn hard_swish_derivative<F: Real>(x: F) -> F {
    if x <= F::of(-3.0) {
        F::zero()
    } else if x >= F::of(3.0) {
        F::one()
    } else {
        x / F::of(3.0) + F::of(0.5)
    }
}

/// 2u of the tanh approximation: (1 + tanh u) / 2 is the sigmoid of 2u, which keeps the left tail.
#[inline(always)]
fn gelu_tanh_inner<F: Real>(x: F) -> F {
    F::of64(2.0 * SQRT_TWO_OVER_PI) * (x + F::of64(GELU_CUBIC) * x * x * x)
}

#[inline(always)]
pub(crate) fn gelu_tanh<F: Real>(x: F) -> F {
    x * sigmoid(gelu_tanh_inner(x))
}

#[inline(always)]
pub(crate) fn gelu_tanh_derivative<F: Real>(x: F) -> F {
    let inner = gelu_tanh_inner(x);
    // Both sides by themselves: 1 - gate would lose the right tail.
    let (gate, rest) = (sigmoid(inner), sigmoid(-inner));
    let slope = F::of64(2.0 * SQRT_TWO_OVER_PI) * (F::one() + F::of64(3.0 * GELU_CUBIC) * x * x);
    gate + x * gate * rest * slope
}
