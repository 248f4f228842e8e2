//! From graph to plan: what runs, in which order, on which memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use distil_gpu_kernels::chain::Chain;
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::{Caps, DType, Kernel, loss_scale};
use serde::Serialize;

use super::slots::{self, Life};
use super::{BufferKind, BufferSpec, Call, Plan, View, fuse, halve::halve};
use crate::error::Error;
use crate::graph::ops::{ArgRef, Lowered, Site};
use crate::graph::{Graph, Node, Source, TensorId};
use crate::layout::{ParameterSpec, Part, Segment, StorePart};

/// How a graph is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Join elementwise chains to their producers.
    pub fuse: bool,
    /// How tensors lie between the kernels.
    pub precision: Precision,
}

/// How the numbers of a training lie in memory. Kernels compute in f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In f32.
    #[default]
    F32,
    /// Activations and their gradients in f16, and the loss scaled so that these are in its range; parameters, their
    /// gradients, losses and norms in f32 (Micikevicius et al., "Mixed Precision Training", 2018). Of the trained store,
    /// number 0, the plan needs the part [`Part::LossScale`].
    Mixed,
}

impl Precision {
    /// Refuses a device that cannot train so.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn check(self, caps: &Caps, device: &str) -> Result<(), Error> {
        if self == Self::F32 || caps.f16 {
            return Ok(());
        }
        Err(Error::NoDevice(format!(
            "{device} has no 16-bit floats in its shaders, which precision = \"mixed\" needs: leave the key out, or \
             choose another device (`distil-gpu devices` says which have them)"
        )))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { fuse: true, precision: Precision::F32 }
    }
}

/// Memory of a tensor before slots are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Buffer `.0` of the plan, from element `.1` on.
    Buffer(usize, usize),
    /// Scratch number `.0`.
    Scratch(usize),
}

/// A kernel call whose operands are `Memory`, offset and length.
pub(super) struct Draft {
    pub kernel: Arc<dyn Kernel>,
    pub operands: Vec<(Memory, usize, usize)>,
    label: String,
}

#[derive(Default)]
struct Compiler {
    buffers: Vec<BufferSpec>,
    parts: HashMap<StorePart, usize>,
    memory: HashMap<TensorId, Memory>,
    scratch: Vec<(usize, String)>,
    drafts: Vec<Draft>,
}

impl Plan {
    /// Compiles a graph: dead nodes dropped, chains fused, memory shared.
    ///
    /// # Errors
    /// [`Error::Shape`] when no kernel can run an op.
    pub fn compile(graph: &Graph, options: Options) -> Result<Self, Error> {
        let live = fuse::live_nodes(graph);
        let nodes = fuse::early(fuse::fuse(graph, &live, options.fuse));
        let mut compiler = Compiler::default();
        compiler.place_known(graph, &nodes);
        let last_reads = last_reads(graph, &nodes);
        for (index, node) in nodes.iter().enumerate() {
            compiler.node(graph, index, node, &last_reads)?;
        }
        compiler.copy_outputs(graph);
        let mut halves = vec![false; compiler.scratch.len()];
        let mut scale = None;
        if options.precision == Precision::Mixed {
            let part = StorePart { store: 0, part: Part::LossScale, segment: 0 };
            if let Memory::Buffer(buffer, _) = compiler.store(graph, part, 0) {
                scale = Some(buffer);
            }
            halves = halve(&mut compiler.drafts, halves.len());
        }
        Ok(Self { loss_scale: scale, ..compiler.finish(&halves) })
    }
}

/// Index of the last node that reads each tensor, through aliases; `usize::MAX` where the host does.
fn last_reads(graph: &Graph, nodes: &[Node]) -> Vec<usize> {
    let mut last = vec![0; graph.tensors.len()];
    for (index, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| last[id.0] = index);
    }
    for (_, id) in &graph.outputs {
        last[id.0] = usize::MAX;
    }
    for node in nodes.iter().rev() {
        if let Some(input) = node.op.alias() {
            let source = node.inputs[input].0;
            last[source] = last[source].max(last[node.outputs[0].0]);
        }
    }
    last
}

impl Compiler {
    fn buffer(&mut self, kind: BufferKind, dtype: DType, len: usize, label: String) -> Memory {
        self.buffers.push(BufferSpec { kind, dtype, len, row: None, label });
        Memory::Buffer(self.buffers.len() - 1, 0)
    }

    fn store(&mut self, graph: &Graph, part: StorePart, offset: usize) -> Memory {
        let known = self.parts.get(&part).copied();
        let index = known.unwrap_or_else(|| {
            let layout = &graph.stores[part.store];
            let (Segment { len, dtype }, matrix) = match part.part {
                Part::Metrics => (Segment { len: 0, dtype: DType::F32 }, None),
                Part::LossScale => (Segment { len: loss_scale::LEN, dtype: DType::F32 }, None),
                _ => (layout.segments[part.segment], layout.matrix(part.segment)),
            };
            let label = match matrix {
                Some(matrix) => format!("{:?} of {} {:?}", part.part, matrix.name, matrix.shape),
                None => {
                    format!("{:?} of store {}, segment {}", part.part, part.store, part.segment)
                }
            };
            self.buffer(BufferKind::Persistent(part), dtype, len, label);
            self.parts.insert(part, self.buffers.len() - 1);
            if let Some(spec) = self.buffers.last_mut() {
                spec.row = matrix.map(ParameterSpec::row_len);
            }
            self.buffers.len() - 1
        });
        Memory::Buffer(index, offset)
    }

    /// Places inputs, constants, parameters, the gradients an optimizer wants in the store, and outputs.
    fn place_known(&mut self, graph: &Graph, nodes: &[Node]) {
        let mut read: HashSet<TensorId> = graph.outputs.iter().map(|(_, id)| *id).collect();
        read.extend(nodes.iter().flat_map(|node| node.inputs.iter().copied()));
        for (index, tensor) in graph.tensors.iter().enumerate() {
            let id = TensorId(index);
            let memory = match &tensor.source {
                Source::Input(name) if read.contains(&id) => {
                    let kind = BufferKind::Input(name.clone());
                    self.buffer(kind, tensor.dtype, tensor.len(), graph.describe(id))
                }
                Source::Constant(constant) if read.contains(&id) => {
                    let kind = BufferKind::Constant(constant.clone());
                    self.buffer(kind, tensor.dtype, tensor.len(), graph.describe(id))
                }
                Source::Parameter { store, index } => {
                    let place = graph.stores[*store].places[*index];
                    let part =
                        StorePart { store: *store, part: Part::Parameters, segment: place.segment };
                    self.store(graph, part, place.offset)
                }
                _ => continue,
            };
            self.memory.insert(id, memory);
        }
        let mut reads: HashMap<TensorId, usize> = HashMap::new();
        for node in nodes.iter().filter(|node| node.op.alias().is_none()) {
            node.inputs.iter().for_each(|&id| *reads.entry(root(graph, id)).or_default() += 1);
        }
        for node in nodes {
            let Some(store) = node.op.gradients_of() else { continue };
            for (index, &id) in node.inputs.iter().enumerate() {
                let root = root(graph, id);
                // A gradient that something else reads is copied there instead: another gradient may be made
                // from it, and no kernel can read and write the same buffer.
                if reads[&root] == 1 && !self.memory.contains_key(&root) {
                    let memory = self.gradient(graph, store, node.op.parameter_of(index));
                    self.memory.insert(root, memory);
                    self.place_source(graph, nodes, &reads, root);
                }
            }
        }
        for (name, id) in &graph.outputs {
            let root = root(graph, *id);
            if !self.memory.contains_key(&root) {
                let kind = BufferKind::Output(name.clone());
                let memory =
                    self.buffer(kind, DType::F32, graph.tensor(*id).len(), graph.describe(*id));
                self.memory.insert(root, memory);
            }
        }
    }

    /// Puts what is turned into a tensor in place, where nothing else reads it, where the tensor is.
    fn place_source(
        &mut self,
        graph: &Graph,
        nodes: &[Node],
        reads: &HashMap<TensorId, usize>,
        id: TensorId,
    ) {
        let Some(node) = nodes.iter().find(|node| node.outputs.contains(&id)) else { return };
        let Some((input, output)) = node.op.in_place() else { return };
        let source = root(graph, node.inputs[input]);
        let wanted = graph.outputs.iter().any(|(_, output)| root(graph, *output) == source);
        let free = reads[&source] == 1 && !wanted && !self.memory.contains_key(&source);
        if node.outputs[output] == id && free {
            self.memory.insert(source, self.memory[&id]);
        }
    }

    fn gradient(&mut self, graph: &Graph, store: usize, index: usize) -> Memory {
        let place = graph.stores[store].places[index];
        let part = StorePart { store, part: Part::Gradients, segment: place.segment };
        self.store(graph, part, place.offset)
    }

    /// Memory of a tensor: known, or new scratch.
    fn memory(&mut self, graph: &Graph, id: TensorId) -> Memory {
        if let Some(&known) = self.memory.get(&id) {
            return known;
        }
        self.scratch.push((graph.tensor(id).len(), graph.describe(id)));
        let memory = Memory::Scratch(self.scratch.len() - 1);
        self.memory.insert(id, memory);
        memory
    }

    fn node(
        &mut self,
        graph: &Graph,
        index: usize,
        node: &Node,
        last_reads: &[usize],
    ) -> Result<(), Error> {
        if let Some(input) = node.op.alias() {
            // The elements may have been placed where the alias is wanted; else they stay where they are.
            let memory = self.memory(graph, node.inputs[input]);
            self.memory.insert(node.outputs[0], memory);
            return Ok(());
        }
        let wanted: Vec<bool> = node.outputs.iter().map(|id| last_reads[id.0] > index).collect();
        if let Some((input, output)) = node.op.in_place().filter(|&(_, output)| wanted[output]) {
            self.share(graph, node, (input, output), last_reads, index);
        }
        if let Some(store) = node.op.gradients_of() {
            for (input, &id) in node.inputs.iter().enumerate() {
                let parameter = node.op.parameter_of(input);
                let (target, memory) =
                    (self.gradient(graph, store, parameter), self.memory(graph, id));
                if memory != target {
                    self.copy(graph, id, memory, target);
                }
            }
        }
        let site = Site {
            inputs: node.inputs.iter().map(|&id| graph.tensor(id)).collect(),
            outputs: node.outputs.iter().map(|&id| graph.tensor(id)).collect(),
            wanted,
            stores: &graph.stores,
        };
        for Lowered { kernel, args } in node.op.lower(&site)? {
            let operands = args
                .into_iter()
                .map(|arg| match arg {
                    ArgRef::Input(i) => self.whole(graph, node.inputs[i]),
                    ArgRef::InputPart { input, offset, len } => {
                        (self.memory(graph, node.inputs[input]), offset, len)
                    }
                    ArgRef::Output(i) => self.whole(graph, node.outputs[i]),
                    ArgRef::OutputPart { output, offset, len } => {
                        (self.memory(graph, node.outputs[output]), offset, len)
                    }
                    ArgRef::Store { part, offset, len } => {
                        let memory = self.store(graph, part, 0);
                        if let (Memory::Buffer(buffer, _), Part::Metrics) = (memory, part.part) {
                            let spec = &mut self.buffers[buffer];
                            spec.len = spec.len.max(offset + len);
                        }
                        (memory, offset, len)
                    }
                })
                .collect();
            let label = node.outputs.first().map_or_else(
                || kernel.name().to_owned(),
                |&id| format!("{} {:?}", kernel.name(), graph.shape(id)),
            );
            self.drafts.push(Draft { kernel, operands, label });
        }
        Ok(())
    }

    fn whole(&mut self, graph: &Graph, id: TensorId) -> (Memory, usize, usize) {
        (self.memory(graph, id), 0, graph.tensor(id).len())
    }

    /// Lets `output` take over the memory of `input`, or a copy of it where that is still needed.
    fn share(
        &mut self,
        graph: &Graph,
        node: &Node,
        (input, output): (usize, usize),
        last_reads: &[usize],
        index: usize,
    ) {
        let (input, output) = (node.inputs[input], node.outputs[output]);
        let from = self.memory(graph, input);
        let source = root(graph, input);
        let once = node.inputs.iter().filter(|&&id| root(graph, id) == source).count() == 1;
        // A tensor that aliases the input, or the host, may still read it.
        let free = once && last_reads[source.0] <= index && matches!(from, Memory::Scratch(_));
        if free && !self.memory.contains_key(&output) {
            self.memory.insert(output, from);
        } else {
            let to = self.memory(graph, output);
            if from != to {
                self.copy(graph, input, from, to);
            }
        }
    }

    fn copy(&mut self, graph: &Graph, id: TensorId, from: Memory, to: Memory) {
        let len = graph.tensor(id).len();
        let kernel = Elementwise {
            extent: [1, 1, 1, len as u32],
            main_strides: Some([0, 0, 0, 1]),
            chain: Chain::default(),
        };
        let label = format!("copy of {}", graph.describe(id));
        let operands = vec![(from, 0, len), (to, 0, len)];
        self.drafts.push(Draft { kernel: Arc::new(kernel), operands, label });
    }

    /// Copies out what the host reads but what could not be made in its own buffer.
    fn copy_outputs(&mut self, graph: &Graph) {
        for (name, id) in &graph.outputs {
            let from = self.memory(graph, *id);
            let own = match from {
                Memory::Buffer(buffer, _) => {
                    matches!(&self.buffers[buffer].kind, BufferKind::Output(n) if n == name)
                }
                Memory::Scratch(_) => false,
            };
            if !own {
                let len = graph.tensor(*id).len();
                let kind = BufferKind::Output(name.clone());
                let to = self.buffer(kind, DType::F32, len, graph.describe(*id));
                self.copy(graph, *id, from, to);
            }
        }
    }

    /// Gives every scratch tensor a slot, those that are `halves` half the words.
    fn finish(mut self, halves: &[bool]) -> Plan {
        let dtype = |tensor: usize| if halves[tensor] { DType::F16 } else { DType::F32 };
        let words = |tensor: usize| {
            dtype(tensor).bytes_of(self.scratch[tensor].0).div_ceil(DType::F32.bytes_of(1))
        };
        let mut lives: Vec<Life> = (0..self.scratch.len())
            .map(|tensor| Life { len: words(tensor), first: usize::MAX, last: 0 })
            .collect();
        for (index, draft) in self.drafts.iter().enumerate() {
            for (memory, ..) in &draft.operands {
                if let Memory::Scratch(scratch) = memory {
                    let life = &mut lives[*scratch];
                    life.first = life.first.min(index);
                    life.last = index;
                }
            }
        }
        let (sizes, chosen) = slots::assign(&lives);
        let first = self.buffers.len();
        for (slot, len) in sizes.into_iter().enumerate() {
            let holds = |&i: &usize| chosen[i] == slot && lives[i].len == len;
            let label = (0..lives.len()).find(holds).map(|i| self.scratch[i].1.clone());
            self.buffers.push(BufferSpec {
                kind: BufferKind::Slot,
                dtype: DType::F32,
                len,
                row: None,
                label: label.unwrap_or_default(),
            });
        }
        let dtypes: Vec<DType> = self.buffers.iter().map(|spec| spec.dtype).collect();
        let view = |(memory, offset, len): (Memory, usize, usize)| match memory {
            Memory::Buffer(buffer, base) => {
                View { buffer, dtype: dtypes[buffer], offset: base + offset, len }
            }
            Memory::Scratch(scratch) => {
                View { buffer: first + chosen[scratch], dtype: dtype(scratch), offset, len }
            }
        };
        let calls = self
            .drafts
            .into_iter()
            .map(|draft| Call {
                kernel: draft.kernel,
                views: draft.operands.into_iter().map(view).collect(),
                label: draft.label,
            })
            .collect();
        Plan { buffers: self.buffers, calls, loss_scale: None }
    }
}

/// The tensor whose elements `id` is, through reshapes.
fn root(graph: &Graph, mut id: TensorId) -> TensorId {
    while let Some(node) = graph.maker(id) {
        match node.op.alias() {
            Some(input) => id = node.inputs[input],
            None => break,
        }
    }
    id
}
