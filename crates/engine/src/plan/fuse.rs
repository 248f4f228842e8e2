//! Fusion: an elementwise node joins the node that makes its main input, if nothing else reads that.

use std::collections::HashMap;
use std::sync::Arc;

use distil_gpu_kernels::chain::{Binary, Stage};

use crate::graph::{Graph, Node, TensorId};

/// The nodes that run, in order, elementwise chains joined to their producers.
///
/// The joined node takes the later one's place, where all operands are made.
pub(super) fn fuse(graph: &Graph, live: &[bool], enabled: bool) -> Vec<Node> {
    let mut work: Vec<Option<Node>> =
        graph.nodes.iter().zip(live).map(|(node, &live)| live.then(|| node.clone())).collect();
    if !enabled {
        return work.into_iter().flatten().collect();
    }
    let mut uses = vec![0_usize; graph.tensors.len()];
    let mut maker = vec![None; graph.tensors.len()];
    for (index, node) in work.iter().enumerate() {
        let Some(node) = node else { continue };
        node.inputs.iter().for_each(|id| uses[id.0] += 1);
        node.outputs.iter().for_each(|id| maker[id.0] = Some(index));
    }
    for (_, id) in &graph.outputs {
        uses[id.0] += 1;
    }
    // How many updates of parameters come before each node: what reads parameters must not move past one.
    let updates: Vec<usize> = work
        .iter()
        .scan(0, |count, node| {
            *count += usize::from(node.as_ref().is_some_and(|n| n.op.gradients_of().is_some()));
            Some(*count)
        })
        .collect();
    for index in 0..work.len() {
        let Some(mut node) = work[index].clone() else { continue };
        if node.op.stages().is_none() {
            continue;
        }
        let output = node.outputs[0];
        // The maker of input `place`, if it makes nothing else, for nobody else, in the output's shape.
        let producer =
            |node: &Node, place: usize| -> Option<(usize, Arc<dyn crate::graph::ops::Op>)> {
                let id = *node.inputs.get(place)?;
                let at = maker[id.0]?;
                let made_by = work[at].as_ref()?;
                let alone = uses[id.0] == 1 && made_by.outputs.len() == 1;
                let alone = alone && updates[at] == updates[index];
                let same = graph.shape(id) == graph.shape(output);
                let stages = node.op.stages()?;
                (alone && same).then(|| made_by.op.absorb(stages)).flatten().map(|op| (at, op))
            };
        let mut found = producer(&node, 0);
        if found.is_none() && commutes(node.op.stages()) {
            let mut swapped = node.clone();
            swapped.inputs.swap(0, 1);
            found = producer(&swapped, 0);
            if found.is_some() {
                node = swapped;
            }
        }
        let Some((at, op)) = found else { continue };
        let Some(first) = work[at].take() else { continue };
        let mut inputs = first.inputs;
        inputs.extend_from_slice(&node.inputs[1..]);
        maker[output.0] = Some(index);
        work[index] = Some(Node { op, inputs, outputs: vec![output] });
    }
    work.into_iter().flatten().collect()
}

/// The same nodes, those that make nothing right behind what they read: the memory of that is free sooner. An
/// update of parameters stays where it is.
pub(super) fn early(nodes: Vec<Node>) -> Vec<Node> {
    let mut made: HashMap<TensorId, usize> = HashMap::new();
    let mut keyed: Vec<(usize, Node)> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.into_iter().enumerate() {
        node.outputs.iter().for_each(|id| _ = made.insert(*id, index));
        let moves = node.outputs.is_empty() && node.op.gradients_of().is_none();
        let ready = node.inputs.iter().filter_map(|id| made.get(id)).max();
        keyed.push((ready.copied().filter(|_| moves).unwrap_or(index), node));
    }
    keyed.sort_by_key(|(place, _)| *place);
    keyed.into_iter().map(|(_, node)| node).collect()
}

fn commutes(stages: Option<&[Stage]>) -> bool {
    matches!(
        stages,
        Some([Stage::Binary(Binary::Add | Binary::Mul | Binary::Max | Binary::Min, 0)])
    )
}

/// Which nodes must run: those whose outputs are read, and those with an effect.
pub(super) fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.tensors.len()];
    for (_, TensorId(id)) in &graph.outputs {
        needed[*id] = true;
    }
    let mut live = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        live[index] = node.op.has_effect() || node.outputs.iter().any(|id| needed[id.0]);
        if live[index] {
            node.inputs.iter().for_each(|id| needed[id.0] = true);
        }
    }
    live
}
