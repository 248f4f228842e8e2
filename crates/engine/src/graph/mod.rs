//! The graph of a model and its loss: tensors, and nodes that make them.
//!
//! Nodes are added in an order in which they can run. Every op checks its shapes as it is added.
//!
//! ```
//! use distil_gpu_engine::graph::{Graph, differentiate};
//! use distil_gpu_engine::kernels::DType;
//! use distil_gpu_engine::kernels::chain::Stage;
//!
//! let mut graph = Graph::new(Vec::new());
//! let x = graph.input("x", &[2, 3], DType::F32);
//! let loss = graph.map(Stage::Square, x)?;
//! let gradients = differentiate(&mut graph, &[loss], &[x])?;
//! assert_eq!(graph.shape(gradients[0]), [2, 3]);
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

mod autodiff;
mod broadcast;
pub mod export;
pub mod ops;
mod recompute;

use std::sync::Arc;

use distil_gpu_kernels::DType;

pub use autodiff::differentiate;
pub use broadcast::{broadcast_shapes, collapse};

use crate::error::Error;
use crate::layout::Layout;
pub use ops::Gradient;
use ops::Op;
pub use recompute::Recompute;

/// Names a tensor of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// Where a tensor comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written by the host before each run.
    Input(String),
    /// The same in every run: written once, when a plan is loaded.
    Constant(Constant),
    /// Parameter `index` of store `store`.
    Parameter {
        /// Index into [`Graph::stores`].
        store: usize,
        /// Index into the store's layout.
        index: usize,
    },
    /// Output `output` of node `node`.
    Node {
        /// Index into [`Graph::nodes`].
        node: usize,
        /// Which of its outputs.
        output: usize,
    },
}

/// Numbers that are part of a graph: tables of angles, ids that depend on positions alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Constant {
    /// What it is, for messages.
    pub name: String,
    /// Its elements, of the tensor's type, as their bits.
    pub words: Arc<[u32]>,
}

impl std::fmt::Debug for Constant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} words", self.name, self.words.len())
    }
}

/// A tensor of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Extents; the last is contiguous.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// Where it comes from.
    pub source: Source,
}

impl Tensor {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An op with its tensors.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<TensorId>,
    /// What it makes.
    pub outputs: Vec<TensorId>,
}

/// Tensors and the nodes that make them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Every tensor.
    pub tensors: Vec<Tensor>,
    /// Every node, in an order in which they can run.
    pub nodes: Vec<Node>,
    /// Layouts of the stores that hold the parameters.
    pub stores: Vec<Layout>,
    /// Tensors the host reads, by name.
    pub outputs: Vec<(String, TensorId)>,
}

impl Graph {
    /// A graph over these stores.
    pub fn new(stores: Vec<Layout>) -> Self {
        Self { stores, ..Self::default() }
    }

    /// The tensor itself.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// Its shape.
    pub fn shape(&self, id: TensorId) -> &[usize] {
        &self.tensors[id.0].shape
    }

    fn add_tensor(&mut self, shape: Vec<usize>, dtype: DType, source: Source) -> TensorId {
        self.tensors.push(Tensor { shape, dtype, source });
        TensorId(self.tensors.len() - 1)
    }

    /// A tensor the host writes before each run.
    pub fn input(&mut self, name: &str, shape: &[usize], dtype: DType) -> TensorId {
        self.add_tensor(shape.to_vec(), dtype, Source::Input(name.to_owned()))
    }

    /// A tensor of these floats. Two of the same name, shape and content are one.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more or fewer values than elements.
    pub fn constant_f32(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<TensorId, Error> {
        let words = values.iter().map(|value| value.to_bits()).collect();
        self.constant_of(name, shape, DType::F32, words)
    }

    /// A tensor of these integers. Two of the same name, shape and content are one.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more or fewer values than elements.
    pub fn constant_i32(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[i32],
    ) -> Result<TensorId, Error> {
        let words = values.iter().map(|value| value.cast_unsigned()).collect();
        self.constant_of(name, shape, DType::I32, words)
    }

    fn constant_of(
        &mut self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        words: Arc<[u32]>,
    ) -> Result<TensorId, Error> {
        if words.len() != shape.iter().product::<usize>() {
            let found = format!("{} values for {name}", words.len());
            return Err(Error::Shape {
                op: "constant",
                found,
                needed: format!("as many as {shape:?} has"),
            });
        }
        let source = Source::Constant(Constant { name: name.to_owned(), words });
        let tensor = Tensor { shape: shape.to_vec(), dtype, source };
        let known = self.tensors.iter().position(|known| *known == tensor);
        Ok(known.map_or_else(|| self.add_tensor(tensor.shape, dtype, tensor.source), TensorId))
    }

    /// Parameter `index` of store `store`.
    ///
    /// # Panics
    /// When there is no such store or parameter.
    pub fn parameter(&mut self, store: usize, index: usize) -> TensorId {
        let source = Source::Parameter { store, index };
        if let Some(known) = self.tensors.iter().position(|t| t.source == source) {
            return TensorId(known);
        }
        let layout = &self.stores[store];
        let (shape, dtype) = (layout.parameters[index].shape.clone(), layout.dtype(index));
        self.add_tensor(shape, dtype, source)
    }

    /// The parameter of store `store` that has this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(&mut self, store: usize, name: &str) -> TensorId {
        let index = self.stores[store].parameters.iter().position(|spec| spec.name == name);
        self.parameter(store, index.unwrap_or_else(|| panic!("store {store} has no {name}")))
    }

    /// Lets the host read a tensor under a name.
    pub fn output(&mut self, name: &str, id: TensorId) {
        self.outputs.push((name.to_owned(), id));
    }

    /// Adds a node; returns its outputs.
    ///
    /// # Errors
    /// [`Error::Shape`] when the op cannot take these tensors.
    pub fn add(&mut self, op: Arc<dyn Op>, inputs: &[TensorId]) -> Result<Vec<TensorId>, Error> {
        // An op that reads no bytes, or no blocks, is given floats.
        let mut inputs = inputs.to_vec();
        for (input, id) in inputs.iter_mut().enumerate() {
            let unread = match self.tensor(*id).dtype {
                DType::I8 => !op.reads_bytes(input),
                DType::Blocks(_) => !op.reads_blocks(input),
                _ => false,
            };
            if unread {
                *id = self.widened(*id)?;
            }
        }
        let tensors: Vec<&Tensor> = inputs.iter().map(|&id| self.tensor(id)).collect();
        let made = op.infer(&tensors)?;
        let node = self.nodes.len();
        let outputs = made
            .into_iter()
            .enumerate()
            .map(|(output, shape)| {
                self.add_tensor(shape, DType::F32, Source::Node { node, output })
            })
            .collect::<Vec<_>>();
        self.nodes.push(Node { op, inputs, outputs: outputs.clone() });
        Ok(outputs)
    }

    /// A parameter in bytes or blocks as floats.
    fn widened(&mut self, id: TensorId) -> Result<TensorId, Error> {
        let rows: Vec<i32> = (0..self.shape(id)[0] as i32).collect();
        let all = self.constant_i32("all rows", &[rows.len()], &rows)?;
        self.gather(id, all, all)
    }

    /// The scales [rows] of a parameter, where it lies in bytes.
    pub(super) fn scales(&mut self, id: TensorId) -> Option<TensorId> {
        let Source::Parameter { store, index } = self.tensor(id).source else { return None };
        let scale = self.stores[store].scales.get(index).copied().flatten()?;
        Some(self.parameter(store, scale))
    }

    /// Adds a node with one output.
    ///
    /// # Errors
    /// [`Error::Shape`] when the op cannot take these tensors.
    pub fn add_one(&mut self, op: Arc<dyn Op>, inputs: &[TensorId]) -> Result<TensorId, Error> {
        Ok(self.add(op, inputs)?[0])
    }

    /// The op and the node that made a tensor.
    pub fn maker(&self, id: TensorId) -> Option<&Node> {
        match self.tensor(id).source {
            Source::Node { node, .. } => Some(&self.nodes[node]),
            _ => None,
        }
    }

    /// A tensor's name and shape, for messages.
    pub fn describe(&self, id: TensorId) -> String {
        format!("{} {:?}", self.name(id), self.shape(id))
    }

    /// A tensor's name: its own, or its op, node and parameter.
    pub fn name(&self, id: TensorId) -> String {
        match &self.tensor(id).source {
            Source::Input(name) | Source::Constant(Constant { name, .. }) => name.clone(),
            Source::Parameter { store, index } => {
                self.stores[*store].parameters[*index].name.clone()
            }
            Source::Node { node, .. } => {
                let Node { op, inputs, .. } = &self.nodes[*node];
                let is_parameter =
                    |id: &&TensorId| matches!(self.tensor(**id).source, Source::Parameter { .. });
                match inputs.iter().find(is_parameter) {
                    Some(id) => format!("{} {node} with {}", op.name(), self.name(*id)),
                    None => format!("{} {node}", op.name()),
                }
            }
        }
    }
}
