//! A plan: the graph as a flat list of kernel calls over a few buffers.
//!
//! [`Plan::compile`] runs once per batch shape; a [`crate::device::Device`] loads the plan once and then
//! runs it every step with no graph work and no allocation.
//!
//! ```
//! use distil_gpu_engine::graph::Graph;
//! use distil_gpu_engine::kernels::DType;
//! use distil_gpu_engine::kernels::chain::Stage;
//! use distil_gpu_engine::plan::{Options, Plan};
//!
//! let mut graph = Graph::new(Vec::new());
//! let x = graph.input("x", &[2, 3], DType::F32);
//! let squares = graph.map(Stage::Square, x)?;
//! let roots = graph.map(Stage::Sqrt, squares)?;
//! graph.output("|x|", roots);
//! // Both stages are one call.
//! assert_eq!(Plan::compile(&graph, Options::default())?.calls.len(), 1);
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

mod compile;
mod fuse;
mod halve;
mod limits;
mod slots;
mod tile;

use std::sync::Arc;

use distil_gpu_kernels::{Cost, DType, Kernel};

pub use compile::{Options, Precision};
pub use limits::Limits;
pub use tile::Tiled;

use crate::graph::Constant;
use crate::layout::StorePart;

/// What a buffer of a plan is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BufferKind {
    /// Scratch: holds one tensor after another; zeroed at first.
    Slot,
    /// Written from the host before a run.
    Input(String),
    /// Written once, when the plan is loaded.
    Constant(Constant),
    /// Read by the host after a run.
    Output(String),
    /// Part of a store that outlives the plan.
    Persistent(StorePart),
}

/// One buffer of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// What it is.
    pub kind: BufferKind,
    /// Element type.
    pub dtype: DType,
    /// Elements.
    pub len: usize,
    /// Elements of a row, where it is a matrix that may be cut between rows, should a device want several buffers.
    pub row: Option<usize>,
    /// The largest tensor it holds, for messages.
    pub label: String,
}

impl BufferSpec {
    /// Bytes that it takes, whole words.
    pub fn bytes(&self) -> u64 {
        (self.dtype.bytes_of(self.len) as u64).next_multiple_of(4)
    }
}

/// A contiguous part of a plan's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Index into [`Plan::buffers`].
    pub buffer: usize,
    /// Type of its elements: the buffer's, but that a slot of f32 holds tensors of f16 as well.
    pub dtype: DType,
    /// First element; at a multiple of [`crate::layout::ALIGNMENT_BYTES`].
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

impl View {
    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes_of(self.len) as u64
    }
}

/// One kernel call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What runs.
    pub kernel: Arc<dyn Kernel>,
    /// Its operands, in the kernel's order.
    pub views: Vec<View>,
    /// The tensor it makes, for profiles and messages.
    pub label: String,
}

/// A flat list of kernel calls.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every buffer the calls touch.
    pub buffers: Vec<BufferSpec>,
    /// The calls in order.
    pub calls: Vec<Call>,
    /// The buffer that has the scale of the loss; see [`distil_gpu_kernels::loss_scale`]. Each run begins with it.
    pub loss_scale: Option<usize>,
}

impl Plan {
    /// Index of the input buffer `name`.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.buffers.iter().position(|b| matches!(&b.kind, BufferKind::Input(n) if n == name))
    }

    /// Index of the output buffer `name`.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.buffers.iter().position(|b| matches!(&b.kind, BufferKind::Output(n) if n == name))
    }

    /// Work of one run.
    pub fn cost(&self) -> Cost {
        self.calls.iter().fold(Cost::default(), |sum, call| sum + call.kernel.cost())
    }

    /// Whether the processor sums what stands in a row of a batch as it does by another plan of the same model, so that the
    /// row has the same bits by either, however many rows each has.
    pub fn sums_as(&self, other: &Self) -> bool {
        let orders = |plan: &Self| -> Vec<u8> {
            plan.calls.iter().filter_map(|call| call.kernel.order_of_sums()).collect()
        };
        orders(self) == orders(other)
    }

    /// How the numbers lie in memory.
    pub fn precision(&self) -> Precision {
        if self.loss_scale.is_some() { Precision::Mixed } else { Precision::F32 }
    }

    /// Bytes of what it makes and uses up: tensors that no one else reads.
    pub fn slot_bytes(&self) -> u64 {
        let slots = self.buffers.iter().filter(|buffer| buffer.kind == BufferKind::Slot);
        slots.map(BufferSpec::bytes).sum()
    }

    /// Bytes of the buffers that belong to the plan alone (slots, inputs, constants, outputs).
    pub fn own_bytes(&self) -> u64 {
        let own = self.buffers.iter().filter(|b| !matches!(b.kind, BufferKind::Persistent(_)));
        own.map(BufferSpec::bytes).sum()
    }
}
