//! Reverse-mode differentiation, graph to graph.

use std::collections::HashMap;

use super::ops::Gradient;
use super::{Graph, TensorId};
use crate::error::Error;

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
        let mut at = Gradient::new(graph, node, upstream, &ones);
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
