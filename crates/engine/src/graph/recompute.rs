//! Activations that the backward pass makes again instead of keeping them (Chen et al., "Training Deep Nets with Sublinear
//! Memory Cost", 2016): more work, by about a forward pass, for less memory.

use std::collections::HashMap;

use super::{Graph, Node, Source, Tensor, TensorId};

/// What a training makes again in its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing: all that is needed is kept.
    #[default]
    None,
    /// What lies within a layer: the hidden states between layers alone are kept.
    Layers,
}

impl Recompute {
    /// Whether nothing is made again.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Graph {
    /// Lets the nodes from number `forward` on, those of the backward pass, read copies of what lies between two neighbours
    /// of `states`, the hidden states in their order. The copies are made right before they are first read, by the same ops
    /// of the same numbers, so that every gradient has the same bits.
    pub fn recompute(&mut self, forward: usize, states: &[TensorId]) {
        let ends: Vec<usize> = states
            .iter()
            .filter_map(|&id| match self.tensor(id).source {
                Source::Node { node, .. } => Some(node),
                _ => None,
            })
            .collect();
        let old = std::mem::take(&mut self.nodes);
        let mut copies =
            Copies { graph: self, old: &old, ends, states, forward, made: HashMap::new() };
        for (index, node) in old.iter().enumerate() {
            let inputs = match index < forward {
                true => node.inputs.clone(),
                false => node.inputs.iter().map(|&id| copies.of(id)).collect(),
            };
            copies.graph.nodes.push(Node { inputs, ..node.clone() });
        }
        for (node, made) in self.nodes.iter().enumerate() {
            for (output, id) in made.outputs.iter().enumerate() {
                self.tensors[id.0].source = Source::Node { node, output };
            }
        }
    }
}

struct Copies<'a> {
    graph: &'a mut Graph,
    old: &'a [Node],
    /// The nodes that make hidden states.
    ends: Vec<usize>,
    states: &'a [TensorId],
    forward: usize,
    /// The copy of each tensor that has one.
    made: HashMap<TensorId, TensorId>,
}

impl Copies<'_> {
    /// Whether a node of the forward pass lies between two hidden states, or makes one with others.
    fn is_within(&self, node: usize) -> bool {
        let before = self.ends.partition_point(|&end| end < node);
        node < self.forward && before > 0 && before < self.ends.len()
    }

    /// A tensor's copy, or the tensor itself where that is kept.
    fn of(&mut self, id: TensorId) -> TensorId {
        if let Some(&made) = self.made.get(&id) {
            return made;
        }
        let Source::Node { node, output } = self.graph.tensor(id).source else { return id };
        if self.states.contains(&id) || !self.is_within(node) {
            return id;
        }
        let old = &self.old[node];
        let inputs = old.inputs.iter().map(|&input| self.of(input)).collect();
        let outputs: Vec<TensorId> = old
            .outputs
            .iter()
            .map(|&output| {
                let Tensor { shape, dtype, source } = self.graph.tensor(output).clone();
                let copy = self.graph.add_tensor(shape, dtype, source);
                self.made.insert(output, copy);
                copy
            })
            .collect();
        let copy = outputs[output];
        self.graph.nodes.push(Node { op: old.op.clone(), inputs, outputs });
        copy
    }
}
