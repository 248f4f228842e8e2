//! What each kernel of distil-gpu computes.
//!
//! A kernel is described three times, and tests hold the three together: its WGSL in
//! `shaders/<kernel>.wgsl`, its CPU twin in `src/<kernel>.rs` (generic over f32, the fallback, and f64,
//! the oracle), and its cost. A [`Kernel`] value is one kernel with its shapes fixed; [`Kernel::launches`]
//! says how a GPU runs it, [`Kernel::run_f32`] and [`Kernel::run_f64`] run it here.
//!
//! Every shader binds the same way, in group 0: binding 0 is the launch's [`Launch::dims`] (uniform),
//! binding 1 the [`StepState`] (uniform), bindings 2 and up are [`Launch::bindings`] (storage).
//!
//! ```
//! use distil_gpu_kernels::softmax::Softmax;
//! use distil_gpu_kernels::{Arg, Args, Kernel, StepState};
//!
//! let softmax = Softmax { rows: 1, cols: 2, backward: false };
//! let (x, mut y) = ([0.0, 3_f64.ln()], [0.0; 2]);
//! softmax.run_f64(Args::new(vec![Arg::Read(&x), Arg::Write(&mut y)]), &StepState::default());
//! assert!((y[0] - 0.25).abs() < 1e-15 && (y[1] - 0.75).abs() < 1e-15);
//! ```

pub mod add_to;
mod args;
pub mod attention;
pub mod batch_norm;
pub mod blocks;
pub mod chain;
mod chunks;
pub mod columns;
pub mod conv;
pub mod depthwise;
pub mod distill_loss;
mod divergence;
pub mod elementwise;
pub mod feature_loss;
pub mod gather;
mod gemm;
pub mod glu;
pub mod grad_norm;
mod halved;
pub mod layer_norm;
pub mod loss_scale;
pub mod matmul;
pub mod max_norm;
pub mod optimizer;
mod parts;
mod patches;
pub mod pointwise_loss;
pub mod pool;
pub mod random;
mod real;
pub mod reduce;
pub mod relation_loss;
pub mod relative_gather;
pub mod roof;
pub mod rotary;
mod row;
mod row_tile;
pub mod sample;
pub mod scatter;
pub mod shader;
pub mod softmax;
mod vector_math;

use std::fmt::Debug;
use std::sync::Arc;

pub use args::{Arg, Args};
pub use blocks::Blocks;
pub use divergence::Divergence;
pub use gemm::Gemm;
pub use halved::Halved;
pub use parts::Part;
pub use patches::Patches;
pub use real::Real;
pub use row::vector_instructions;
pub use shader::Source;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float; f64 on the oracle device.
    F32,
    /// 32-bit signed integer (labels, ids).
    I32,
    /// 16-bit float (IEEE 754 binary16): weights that stay as they are, which on a GPU are read two a word, so that no
    /// optional feature is needed; and what [`Halved`] kernels read and write.
    F16,
    /// 8-bit signed integer: weights that stay as they are, each row of which has a scale of its own, by which the product or
    /// the row is multiplied behind the kernel. On a GPU they are read four a word.
    I8,
    /// Quantised numbers: weights that stay as they are, in whole blocks of neighbours. On a GPU they are read word by word.
    Blocks(Blocks),
}

impl DType {
    /// Elements that lie together, and the bytes that they take.
    fn unit(self) -> [usize; 2] {
        match self {
            Self::F32 | Self::I32 => [1, 4],
            Self::F16 => [1, 2],
            Self::I8 => [1, 1],
            Self::Blocks(blocks) => [blocks.numbers(), 4 * blocks.words()],
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::F16 => "f16",
            Self::I8 => "int8",
            Self::Blocks(blocks) => blocks.name(),
        }
    }

    /// Bytes of so many elements, of blocks whole ones; the f64 oracle's floats take more.
    pub fn bytes_of(self, elements: usize) -> usize {
        let [len, bytes] = self.unit();
        elements.div_ceil(len) * bytes
    }

    /// Elements that so many bytes hold, of blocks whole ones.
    pub fn held_in(self, bytes: usize) -> usize {
        let [len, unit] = self.unit();
        bytes / unit * len
    }

    /// The fewest elements whose bytes are a multiple of this power of two.
    pub fn filling(self, bytes: usize) -> usize {
        let [len, unit] = self.unit();
        len * (bytes >> unit.trailing_zeros().min(bytes.trailing_zeros()))
    }
}

/// How a kernel touches an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes every element, reads none.
    Write,
    /// Reads and writes.
    ReadWrite,
}

/// One tensor a kernel works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Name in the shader.
    pub name: &'static str,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: usize,
    /// How it is touched.
    pub access: Access,
}

impl Operand {
    /// An f32 operand that is read.
    pub fn read(name: &'static str, len: usize) -> Self {
        Self { name, dtype: DType::F32, len, access: Access::Read }
    }
    /// An f32 operand that is written whole.
    pub fn write(name: &'static str, len: usize) -> Self {
        Self { name, dtype: DType::F32, len, access: Access::Write }
    }
    /// An f32 operand that is updated.
    pub fn update(name: &'static str, len: usize) -> Self {
        Self { name, dtype: DType::F32, len, access: Access::ReadWrite }
    }
    /// An operand that is read, stored in this type.
    pub fn read_weights(name: &'static str, len: usize, dtype: DType) -> Self {
        Self { name, dtype, len, access: Access::Read }
    }
    /// Bytes of the operand.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes_of(self.len) as u64
    }
    /// An i32 operand that is read.
    pub fn read_i32(name: &'static str, len: usize) -> Self {
        Self { name, dtype: DType::I32, len, access: Access::Read }
    }
}

/// Work of one kernel: floating-point operations and the least bytes it must move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Additions and multiplications; a transcendental counts once.
    pub flops: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            bytes_read: self.bytes_read + other.bytes_read,
            bytes_written: self.bytes_written + other.bytes_written,
        }
    }
}

/// What a kernel must know of the device to choose its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Most threads in one workgroup.
    pub max_workgroup_threads: u32,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// The driver runs shaders on the CPU: workgroup memory and barriers cost more than they save.
    pub software: bool,
    /// Lanes of every subgroup, where shaders can use subgroups and all are of one size.
    pub subgroup_lanes: Option<u32>,
    /// Shaders can read tensors of [`DType::F16`]: standard, but some drivers that run on the processor cannot.
    pub reads_f16: bool,
    /// Shaders can write them too, as numbers of a type of their own: what [`Halved`] kernels need, and a feature that
    /// many devices lack.
    pub f16: bool,
    /// Side of the square matrices of f32 that a subgroup multiplies at once, in hardware if it has any: 8 or 16.
    pub cooperative_f32: Option<u32>,
    /// The same of f16, summed in f32.
    pub cooperative_f16: Option<u32>,
}

impl Default for Caps {
    /// The limits that every WebGPU device keeps.
    fn default() -> Self {
        Self {
            max_workgroup_threads: 256,
            max_workgroups: 65_535,
            workgroup_memory: 16 << 10,
            software: false,
            subgroup_lanes: None,
            reads_f16: true,
            f16: false,
            cooperative_f32: None,
            cooperative_f16: None,
        }
    }
}

impl Caps {
    /// A grid of `groups` workgroups, folded into two dimensions where one cannot hold them.
    /// The shader's `flat_group` undoes the fold and must drop the surplus.
    pub fn grid(&self, groups: usize) -> [u32; 3] {
        let x = groups.clamp(1, self.max_workgroups as usize);
        [x as u32, groups.div_ceil(x).max(1) as u32, 1]
    }

    /// Elements that a thread takes of a loop over all elements of a tensor. A driver on the processor pays for
    /// every workgroup.
    pub(crate) fn rounds(&self) -> usize {
        if self.software { 16 } else { 1 }
    }
}

/// One dispatch of a shader.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// What is compiled.
    pub source: Source,
    /// Entry point.
    pub entry: &'static str,
    /// Values for `override` declarations.
    pub overrides: Vec<(&'static str, f64)>,
    /// Words of the dims uniform; floats as their bits.
    pub dims: Vec<u32>,
    /// Operand index of each storage binding, that behind the last being [`Kernel::scratch`], which is always bound to be
    /// written; `None` binds a read-only placeholder.
    pub bindings: Vec<Option<usize>>,
    /// Grid size.
    pub workgroups: [u32; 3],
}

/// One way to run a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// What tells it from the kernel's others.
    pub name: String,
    /// Its launches, in order.
    pub launches: Vec<Launch>,
}

/// Values that change every step, in one uniform, so that no change of them recompiles anything.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StepState {
    /// Number of the step, from 0; a word of every random counter.
    pub step: u32,
    /// Seed; a word of every random key.
    pub seed: u32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Temperature T of the soft term.
    pub temperature: f32,
    /// Weight of the soft term; the hard term has 1 - alpha.
    pub alpha: f32,
    /// 1 / number of rows that count in the soft term, over the whole batch.
    pub soft_scale: f32,
    /// 1 / number of rows that count in the hard term, over the whole batch; 0 where none does.
    pub hard_scale: f32,
    /// Adam's 1 - beta1^(step + 1).
    pub bias_correction1: f32,
    /// Adam's 1 - beta2^(step + 1).
    pub bias_correction2: f32,
    /// 1 / number of tokens that are no padding, over the whole batch.
    pub token_scale: f32,
    /// Factor of the losses' gradients, which keeps those that are stored in f16 in its range; the optimizer divides by
    /// it. A GPU takes it from the store where it changes, see [`loss_scale`].
    pub loss_scale: f32,
    /// Of [`Divergence::Taid`]: how much of the teacher its target has, from 0, the student's own answers, to 1.
    pub blend: f32,
}

impl Default for StepState {
    fn default() -> Self {
        Self {
            step: 0,
            seed: 0,
            learning_rate: 0.0,
            temperature: 1.0,
            alpha: 0.0,
            soft_scale: 1.0,
            hard_scale: 1.0,
            bias_correction1: 1.0,
            bias_correction2: 1.0,
            token_scale: 1.0,
            loss_scale: 1.0,
            blend: 1.0,
        }
    }
}

/// One kernel with its shapes fixed.
pub trait Kernel: Debug + Send + Sync {
    /// The kernel's name: its shader's and its module's.
    fn name(&self) -> &'static str;
    /// The tensors it works on, in the order of [`Args`].
    fn operands(&self) -> Vec<Operand>;
    /// How a GPU with these capabilities runs it; launches run in order.
    fn launches(&self, caps: &Caps) -> Vec<Launch>;
    /// Every way that a device with these capabilities may run it, the one of [`Kernel::launches`] first.
    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        vec![Variant { name: "only".to_owned(), launches: self.launches(caps) }]
    }
    /// The same with these operands in f16, which allows more; see [`Halved`].
    fn variants_halved(&self, caps: &Caps, halves: &[usize]) -> Vec<Variant> {
        let _ = halves;
        self.variants(caps)
    }
    /// Kernels of one name and bucket are alike enough for one of them to be timed for all.
    fn bucket(&self) -> String {
        String::new()
    }
    /// The same work in parts, each with at most `most` elements of operand `operand`; `None` where it cannot be cut there.
    /// A part starts at a multiple of 256 bytes of every operand, and of 64 rows of that one.
    fn parts(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        let _ = (operand, most);
        None
    }
    /// Operands in f32 that its shaders read or write in f16 as well; see [`Halved`].
    fn halves(&self) -> Vec<usize> {
        Vec::new()
    }
    /// Of a [`Halved`] kernel, the one that has all in f32, and which of its operands it has in f16.
    fn whole(&self) -> Option<(Arc<dyn Kernel>, &[usize])> {
        None
    }
    /// Elements of f32 that some of its variants need beside the operands, from one of their launches to the next.
    fn scratch(&self) -> usize {
        0
    }
    /// In which of its ways the CPU twin sums, where that depends on how many rows there are: of two kernels that say
    /// the same, a row has the same bits.
    fn order_of_sums(&self) -> Option<u8> {
        None
    }
    /// Its work.
    fn cost(&self) -> Cost;
    /// The CPU twin in f32.
    fn run_f32(&self, args: Args<'_, f32>, state: &StepState);
    /// The CPU twin in f64: the oracle.
    fn run_f64(&self, args: Args<'_, f64>, state: &StepState);
}

/// Writes both `run` methods of [`Kernel`] in terms of one generic `run`.
macro_rules! twin {
    () => {
        fn run_f32(&self, args: $crate::Args<'_, f32>, state: &$crate::StepState) {
            self.run(args, state);
        }
        fn run_f64(&self, args: $crate::Args<'_, f64>, state: &$crate::StepState) {
            self.run(args, state);
        }
    };
}
pub(crate) use twin;

/// Bytes of `elements` f32 or i32 values.
pub(crate) fn bytes(elements: usize) -> u64 {
    elements as u64 * 4
}
