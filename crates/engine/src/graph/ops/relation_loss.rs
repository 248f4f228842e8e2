//! How far self-attention relations are from the teacher's: a loss for each example, and the gradients.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
use distil_gpu_kernels::relation_loss;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: a and b [batch, length, columns], of the student, then of the teacher, and lengths \[batch] (integers:
/// positions from there on are padding). Outputs: losses \[batch], whose sum is `weight` times the mean over heads and
/// positions of KL(teacher's ‖ student's) of softmax(a · bᵀ / √head_dim); the same for each head and position; what the
/// launches tell each other; and the gradients of the sum by the student's a and b. The teacher's have none.
#[derive(Clone, Copy, Debug)]
pub struct RelationLoss {
    /// Heads that the columns of both models are shared out to.
    pub heads: usize,
    /// Weight of the term.
    pub weight: f32,
}

const ROWS: usize = 1;
const STATS: usize = 2;
const GRADIENTS: [usize; 2] = [3, 4];

impl RelationLoss {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<relation_loss::RelationLoss, Error> {
        let Self { heads, weight } = *self;
        let error = || {
            let needed = format!(
                "a and b [batch, length, columns] of both models, with columns for {heads} heads, \
                 and lengths [batch]"
            );
            mismatch(self.name(), inputs, &needed)
        };
        let ([batch, length, own], [.., theirs]) = (&inputs[0].shape[..], &inputs[2].shape[..])
        else {
            return Err(error());
        };
        let floats = |t: &Tensor, columns| {
            t.dtype == DType::F32 && t.shape == [*batch, *length, columns] && !t.is_empty()
        };
        let alike = inputs[..2].iter().all(|t| floats(t, *own))
            && inputs[2..4].iter().all(|t| floats(t, *theirs));
        let lengths = inputs[4].shape == [*batch] && inputs[4].dtype == DType::I32;
        let divides = |columns: &usize| heads > 0 && columns.is_multiple_of(heads);
        if !alike || !lengths || !divides(own) || !divides(theirs) {
            return Err(error());
        }
        Ok(relation_loss::RelationLoss {
            batch: *batch,
            length: *length,
            heads,
            head_dim: own / heads,
            teacher_dim: theirs / heads,
            weight,
            gradient: false,
        })
    }
}

impl Op for RelationLoss {
    fn name(&self) -> &'static str {
        "relation_loss"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let relation_loss::RelationLoss { batch, length, heads, .. } = self.kernel(inputs)?;
        let rows = vec![batch, heads, length];
        let (stats, whole) = (vec![batch, heads, length, 2], inputs[0].shape.clone());
        Ok(vec![vec![batch], rows, stats, whole.clone(), whole])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if (1..at.node.outputs.len()).any(|output| at.has_upstream(output)) {
            return Err(at.missing(self.name()));
        }
        let mut gradients = vec![None; at.node.inputs.len()];
        for (gradient, output) in gradients.iter_mut().zip(GRADIENTS) {
            let made = at.output(output);
            *gradient = Some(if at.upstream_is_one(0) {
                made
            } else {
                let (upstream, batch) = (at.upstream(0), at.graph.shape(made)[0]);
                let factors = at.graph.reshape(upstream, &[batch, 1, 1])?;
                at.graph.mul(made, factors)?
            });
        }
        Ok(gradients)
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let gradient = GRADIENTS.iter().any(|&output| site.wanted[output]);
        let kernel = relation_loss::RelationLoss { gradient, ..self.kernel(&site.inputs)? };
        let sum = Reduce {
            op: ReduceOp::Sum,
            outer: kernel.batch,
            len: kernel.heads * kernel.length,
            inner: 1,
            accumulate: false,
        };
        let mut args: Vec<ArgRef> = (0..5).map(ArgRef::Input).collect();
        args.extend([ROWS, STATS].map(ArgRef::Output));
        args.extend(GRADIENTS.map(ArgRef::Output).into_iter().filter(|_| gradient));
        Ok(vec![
            Lowered::new(kernel, args),
            Lowered::new(sum, [ROWS, 0].map(ArgRef::Output).to_vec()),
        ])
    }
}

impl Graph {
    /// Losses \[batch] of the student's relation of a and b against the teacher's; see [`RelationLoss`]. The mean's
    /// denominator comes from the step state.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors or the heads do not fit each other.
    pub fn relation_loss(
        &mut self,
        [a, b]: [TensorId; 2],
        [teacher_a, teacher_b]: [TensorId; 2],
        lengths: TensorId,
        op: RelationLoss,
    ) -> Result<TensorId, Error> {
        Ok(self.add(Arc::new(op), &[a, b, teacher_a, teacher_b, lengths])?[0])
    }
}
