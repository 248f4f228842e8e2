//! The ops: shape rule, gradient rule, kernel and form in ONNX of each, one file an op.

mod accumulate;
mod add_to;
mod attention;
mod batch_norm;
mod columns;
mod conv;
mod distill_loss;
mod feature_loss;
mod gather;
mod glu;
mod gradients;
mod layer_norm;
mod matmul;
mod optimizer_step;
mod permute;
mod pointwise;
mod pointwise_loss;
mod pool;
mod reduce;
mod relation_loss;
mod relative_gather;
mod reshape;
mod rotary;
mod sample;
mod scatter;
mod softmax;
mod vocabulary_loss;

use std::fmt::Debug;
use std::sync::Arc;

use distil_gpu_kernels::Kernel;
use distil_gpu_kernels::chain::Stage;

pub use accumulate::Accumulate;
pub use add_to::AddTo;
pub use attention::{Attention, AttentionConfig, UNSEEN};
pub use batch_norm::BatchNormConfig;
pub use columns::{Join, Split};
pub use distill_loss::{DistillLoss, LossTerms};
pub use feature_loss::FeatureLoss;
pub use gather::Gather;
pub use glu::Glu;
pub use gradients::TakeNorm;
pub use layer_norm::LayerNorm;
pub use matmul::Matmul;
pub use optimizer_step::{OptimizerConfig, OptimizerStep, Rate, Update};
pub use permute::Permute;
pub use pointwise::Pointwise;
pub use pointwise_loss::PointwiseLoss;
pub use reduce::Reduce;
pub use relation_loss::RelationLoss;
pub use relative_gather::RelativeGather;
pub use reshape::Reshape;
pub use rotary::Rotary;
pub use sample::Sample;
pub use scatter::Scatter;
pub use softmax::Softmax;
pub use vocabulary_loss::{Decoder, VocabularyLoss, chunk_rows};

use super::export::Export;
use super::{Graph, Node, Tensor, TensorId};
use crate::error::Error;
use crate::layout::{Layout, StorePart};

/// An operand of a lowered op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgRef {
    /// Input number `.0` of the node.
    Input(usize),
    /// `len` elements of an input, from `offset` on.
    InputPart {
        /// Which input.
        input: usize,
        /// First element; a multiple of [`crate::layout::ALIGNMENT`].
        offset: usize,
        /// Elements.
        len: usize,
    },
    /// Output number `.0` of the node.
    Output(usize),
    /// `len` elements of an output, from `offset` on.
    OutputPart {
        /// Which output.
        output: usize,
        /// First element; a multiple of [`crate::layout::ALIGNMENT`].
        offset: usize,
        /// Elements.
        len: usize,
    },
    /// `len` elements of a store's buffer, from `offset` on.
    Store {
        /// Which buffer.
        part: StorePart,
        /// First element; a multiple of [`crate::layout::ALIGNMENT`].
        offset: usize,
        /// Elements.
        len: usize,
    },
}

/// A kernel call of a lowered op.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// Its operands, in the kernel's order.
    pub args: Vec<ArgRef>,
}

impl Lowered {
    /// A kernel over these operands.
    pub fn new(kernel: impl Kernel + 'static, args: Vec<ArgRef>) -> Self {
        Self { kernel: Arc::new(kernel), args }
    }
}

/// What an op may look at when it is lowered.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The node's inputs.
    pub inputs: Vec<&'a Tensor>,
    /// The node's outputs.
    pub outputs: Vec<&'a Tensor>,
    /// Which outputs anything reads.
    pub wanted: Vec<bool>,
    /// The graph's stores.
    pub stores: &'a [Layout],
}

/// Where an op's gradient rule stands: the node, and the gradients of its outputs.
#[derive(Debug)]
pub struct Gradient<'a> {
    /// The graph the rule adds to.
    pub graph: &'a mut Graph,
    /// The node.
    pub node: Node,
    upstream: Vec<Option<TensorId>>,
    ones: &'a [TensorId],
}

impl<'a> Gradient<'a> {
    pub(super) fn new(
        graph: &'a mut Graph,
        node: Node,
        upstream: Vec<Option<TensorId>>,
        ones: &'a [TensorId],
    ) -> Self {
        Self { graph, node, upstream, ones }
    }

    /// Input `index` of the node.
    pub fn input(&self, index: usize) -> TensorId {
        self.node.inputs[index]
    }

    /// Output `index` of the node.
    pub fn output(&self, index: usize) -> TensorId {
        self.node.outputs[index]
    }

    /// The gradient of the loss by output `index`.
    ///
    /// # Panics
    /// When the loss does not depend on that output: a rule asks only for its differentiable outputs.
    pub fn upstream(&self, index: usize) -> TensorId {
        self.upstream[index].expect("a rule asks only for differentiable outputs")
    }

    /// Whether the loss depends on output `index`.
    pub fn has_upstream(&self, index: usize) -> bool {
        self.upstream[index].is_some()
    }

    /// Whether that gradient is the constant 1.
    pub fn upstream_is_one(&self, index: usize) -> bool {
        self.ones.contains(&self.upstream(index))
    }

    /// The error of a rule that does not exist.
    pub fn missing(&self, op: &'static str) -> Error {
        let tensor =
            self.node.inputs.first().map_or_else(String::new, |&id| self.graph.describe(id));
        Error::NoGradient { op, tensor }
    }
}

/// What a node computes.
pub trait Op: Debug + Send + Sync {
    /// Name for messages.
    fn name(&self) -> &'static str;

    /// Shapes of the outputs (all f32).
    ///
    /// # Errors
    /// [`Error::Shape`] when the op cannot take these tensors.
    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error>;

    /// Adds to the graph the gradient of each input, `None` where there is none.
    ///
    /// # Errors
    /// [`Error::NoGradient`] when the op has none.
    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error>;

    /// The kernel calls that compute the outputs that are wanted.
    ///
    /// # Errors
    /// [`Error::Shape`] when no kernel can.
    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error>;

    /// Whether it reads input `input` where that lies in quantised blocks.
    fn reads_blocks(&self, input: usize) -> bool {
        self.reads_bytes(input)
    }

    /// Whether it reads input `input` where that lies in bytes, leaving the scales of its rows to who adds it.
    fn reads_bytes(&self, _input: usize) -> bool {
        false
    }

    /// Adds the op to an ONNX file, and says which of the file's values its outputs are.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the op, where it has no form there, which is so unless an op says how.
    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        Err(at.unsupported(self.name()))
    }

    /// The op followed by `stages` in one kernel, if it can: the stages' operands become further inputs, in
    /// order, numbered on from the op's own.
    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let _ = stages;
        None
    }

    /// The stages, if the op is a chain of them over its first input.
    fn stages(&self) -> Option<&[Stage]> {
        None
    }

    /// The input and the output that share memory: the kernel turns one into the other.
    fn in_place(&self) -> Option<(usize, usize)> {
        None
    }

    /// The input whose elements the output is, in another shape.
    fn alias(&self) -> Option<usize> {
        None
    }

    /// The store whose gradients the inputs are.
    fn gradients_of(&self) -> Option<usize> {
        None
    }

    /// The parameter of that store whose gradient an input is.
    fn parameter_of(&self, input: usize) -> usize {
        input
    }

    /// Whether the op must run though nothing reads its outputs.
    fn has_effect(&self) -> bool {
        false
    }
}

/// The message of a shape error.
fn mismatch(op: &'static str, inputs: &[&Tensor], needed: &str) -> Error {
    let found: Vec<String> =
        inputs.iter().map(|t| format!("{:?} {:?}", t.dtype, t.shape)).collect();
    Error::Shape { op, found: found.join(", "), needed: needed.to_owned() }
}
