//! Multi-head self-attention over padded batches.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::attention::{self, MAX_HEAD_DIM};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// How heads attend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Heads that the columns of q, k and v are shared out to.
    pub heads: usize,
    /// Factor of the scores; 1 / √head_dim as a rule.
    pub scale: f32,
    /// Whether a query sees only keys that are not behind it.
    pub causal: bool,
    /// Probability that a weight is dropped, in [0, 1).
    pub dropout: f32,
    /// The dropout's stream of random numbers.
    pub stream: u32,
}

/// Inputs: q, k, v [batch, length, heads · head_dim], lengths [batch] (integers: from there on, an example's keys are
/// padding). Outputs: softmax(scale · q · kᵀ + mask) · v of q's shape, and the logarithms of the softmax's denominators
/// [batch, heads, length].
///
/// `backward`: further inputs are both outputs and the first one's gradient; outputs: dq, dk, dv of q's shape, and
/// what its launches tell each other [batch, heads, length, 2].
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Heads, mask and dropout.
    pub config: AttentionConfig,
    /// The gradients instead.
    pub backward: bool,
}

const LSE: usize = 1;

impl Attention {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<attention::Attention, Error> {
        let AttentionConfig { heads, scale, causal, dropout, stream } = self.config;
        let needed = || {
            format!(
                "q, k, v [batch, length, columns], with columns for {heads} heads of at most {MAX_HEAD_DIM}, and \
                 lengths [batch]"
            )
        };
        let error = || mismatch(self.name(), inputs, &needed());
        let [batch, length, columns] = inputs[0].shape[..] else { return Err(error()) };
        let alike = inputs[..3].iter().all(|t| t.shape == inputs[0].shape && t.dtype == DType::F32);
        let lengths = inputs[3].shape == [batch] && inputs[3].dtype == DType::I32;
        let divides = heads > 0 && columns.is_multiple_of(heads) && columns / heads <= MAX_HEAD_DIM;
        if !alike || !lengths || !divides || inputs[0].is_empty() || !(0.0..1.0).contains(&dropout)
        {
            return Err(error());
        }
        Ok(attention::Attention {
            batch,
            length,
            heads,
            head_dim: columns / heads,
            scale,
            causal,
            dropout,
            stream,
            backward: self.backward,
        })
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let attention::Attention { batch, heads, length, .. } = self.kernel(inputs)?;
        let whole = inputs[0].shape.clone();
        Ok(match self.backward {
            false => vec![whole, vec![batch, heads, length]],
            true => vec![whole.clone(), whole.clone(), whole, vec![batch, heads, length, 2]],
        })
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if self.backward || at.has_upstream(LSE) {
            return Err(at.missing(self.name()));
        }
        let mut inputs = at.node.inputs.clone();
        inputs.extend([at.output(0), at.output(LSE), at.upstream(0)]);
        let made = at.graph.add(Arc::new(Self { backward: true, ..*self }), &inputs)?;
        Ok(vec![Some(made[0]), Some(made[1]), Some(made[2]), None])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let kernel = self.kernel(&site.inputs)?;
        let mut args: Vec<ArgRef> = (0..site.inputs.len()).map(ArgRef::Input).collect();
        args.extend((0..site.outputs.len()).map(ArgRef::Output));
        Ok(vec![Lowered::new(kernel, args)])
    }
}

impl Graph {
    /// Self-attention of q, k and v [batch, length, heads · head_dim]; from position lengths[b] on, the keys of
    /// example b are padding. Of q's shape; see [`Attention`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors or the heads do not fit each other.
    pub fn attention(
        &mut self,
        q: TensorId,
        k: TensorId,
        v: TensorId,
        lengths: TensorId,
        config: AttentionConfig,
    ) -> Result<TensorId, Error> {
        Ok(self.add(Arc::new(Attention { config, backward: false }), &[q, k, v, lengths])?[0])
    }
}
