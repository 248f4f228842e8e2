//! Reverse-mode differentiation, graph to graph.

use std::collections::HashMap;

use super::{Graph, Node, TensorId};
use crate::error::Error;

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

impl Gradient<'_> {
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

/// Adds to the graph the gradients, by each of `wrt`, of the sum of all elements of the `losses`.
///
/// # Errors
/// [`Error::NoGradient`] when an op on the way has none, or when the losses do not depend on one of `wrt`.
pub fn differentiate(
    graph: &mut Graph,
    losses: &[TensorId],
    wrt: &[TensorId],
) -> Result<Vec<TensorId>, Error> {
    let last = graph.nodes.len();
    // Forward: which tensors depend on `wrt`.
    let mut depends = vec![false; graph.tensors.len()];
    for id in wrt {
        depends[id.0] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|id| depends[id.0]) {
            for id in &node.outputs {
                depends[id.0] = true;
            }
        }
    }

    let mut gradients: HashMap<TensorId, TensorId> = HashMap::new();
    let mut ones = Vec::new();
    for &loss in losses {
        let shape = graph.shape(loss).to_vec();
        let one = graph.constant(1.0, &shape)?;
        ones.push(one);
        gradients.insert(loss, one);
    }
    for index in (0..last).rev() {
        let node = graph.nodes[index].clone();
        let upstream: Vec<Option<TensorId>> =
            node.outputs.iter().map(|id| gradients.get(id).copied()).collect();
        let on_the_way = node.inputs.iter().any(|id| depends[id.0]);
        if !on_the_way || upstream.iter().all(Option::is_none) {
            continue;
        }
        let op = node.op.clone();
        let mut at = Gradient { graph, node, upstream, ones: &ones };
        let contributions = op.gradient(&mut at)?;
        let inputs = at.node.inputs;
        for (input, contribution) in inputs.into_iter().zip(contributions) {
            let Some(contribution) = contribution.filter(|_| depends[input.0]) else { continue };
            let sum = match gradients.get(&input) {
                Some(&known) => graph.plus(known, contribution)?,
                None => contribution,
            };
            gradients.insert(input, sum);
        }
    }
    wrt.iter()
        .map(|id| {
            gradients.get(id).copied().ok_or_else(|| Error::NoGradient {
                op: "the loss",
                tensor: format!("{} (it has no influence)", graph.describe(*id)),
            })
        })
        .collect()
}
