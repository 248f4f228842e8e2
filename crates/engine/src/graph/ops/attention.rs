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
    /// Keys that a query sees in either direction beside the one at its own place; if `causal`, keys that it sees, that
    /// one included, at least 1. Both are the `sliding_window` of transformers' masks; `None` where all count.
    pub window: Option<usize>,
    /// Probability that a weight is dropped, in [0, 1).
    pub dropout: f32,
    /// The dropout's stream of random numbers.
    pub stream: u32,
}

/// Inputs: q, k, v [batch, length, heads · head_dim], lengths [batch] (integers: from there on, an example's keys are
/// padding), and with `bias` what is added to the scaled scores, finite, [1 or batch, heads, length, length]. Outputs:
/// softmax(scale · q · kᵀ + bias + mask) · v of q's shape, and the logarithms of the softmax's denominators
/// [batch, heads, length].
///
/// `backward`: further inputs are both outputs and the first one's gradient; outputs: dq, dk, dv of q's shape, what its
/// launches tell each other [batch, heads, length, 2] (with a bias [batch · (2 · heads · length + 1)]), and the bias's
/// gradient, which one that serves all examples has summed over them.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Heads, mask and dropout.
    pub config: AttentionConfig,
    /// Whether a bias is added to the scores.
    pub bias: bool,
    /// The gradients instead.
    pub backward: bool,
}

const LSE: usize = 1;
/// Input of the bias.
const BIAS: usize = 4;
/// Output of its gradient.
const DBIAS: usize = 4;

impl Attention {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<attention::Attention, Error> {
        let AttentionConfig { heads, scale, causal, window, dropout, stream } = self.config;
        let needed = || {
            let bias =
                if self.bias { ", and a bias [1 or batch, heads, length, length]" } else { "" };
            format!(
                "q, k, v [batch, length, columns], with columns for {heads} heads of at most {MAX_HEAD_DIM}, lengths \
                 [batch]{bias}; a causal window of at least 1"
            )
        };
        let error = || mismatch(self.name(), inputs, &needed());
        let [batch, length, columns] = inputs[0].shape[..] else { return Err(error()) };
        let bias = inputs.get(BIAS).filter(|_| self.bias);
        let bias_fits = match bias {
            Some(bias) => {
                let of_head = [1, batch].map(|examples| vec![examples, heads, length, length]);
                let countable = i32::try_from(bias.len()).is_ok();
                bias.dtype == DType::F32 && of_head.contains(&bias.shape) && countable
            }
            None => !self.bias,
        };
        let window_fits = window.is_none_or(|window| window > 0 || !causal);
        let alike = inputs[..3].iter().all(|t| t.shape == inputs[0].shape && t.dtype == DType::F32);
        let lengths = inputs[3].shape == [batch] && inputs[3].dtype == DType::I32;
        let divides = heads > 0 && columns.is_multiple_of(heads) && columns / heads <= MAX_HEAD_DIM;
        let fits = alike && lengths && divides && bias_fits && window_fits;
        if !fits || inputs[0].is_empty() || !(0.0..1.0).contains(&dropout) {
            return Err(error());
        }
        Ok(attention::Attention {
            batch,
            length,
            heads,
            head_dim: columns / heads,
            scale,
            causal,
            window,
            bias: bias.map(|bias| bias.shape[0]),
            bias_gradient: false,
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
        if !self.backward {
            return Ok(vec![whole, vec![batch, heads, length]]);
        }
        let mut shapes = vec![whole.clone(), whole.clone(), whole];
        match inputs.get(BIAS).filter(|_| self.bias) {
            Some(bias) => {
                shapes.extend([vec![batch * (2 * heads * length + 1)], bias.shape.clone()]);
            }
            None => shapes.push(vec![batch, heads, length, 2]),
        }
        Ok(shapes)
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if self.backward || at.has_upstream(LSE) {
            return Err(at.missing(self.name()));
        }
        let mut inputs = at.node.inputs.clone();
        inputs.extend([at.output(0), at.output(LSE), at.upstream(0)]);
        let made = at.graph.add(Arc::new(Self { backward: true, ..*self }), &inputs)?;
        let mut gradients = vec![Some(made[0]), Some(made[1]), Some(made[2]), None];
        gradients.extend(made.get(DBIAS).map(|&dbias| Some(dbias)));
        Ok(gradients)
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let mut kernel = self.kernel(&site.inputs)?;
        kernel.bias_gradient = self.backward && self.bias && site.wanted[DBIAS];
        // The bias is the operand behind what plain attention has.
        let inputs = (0..site.inputs.len()).filter(|&input| !self.bias || input != BIAS);
        let mut args: Vec<ArgRef> = inputs.map(ArgRef::Input).collect();
        args.extend((0..site.outputs.len().min(DBIAS)).map(ArgRef::Output));
        args.extend(self.bias.then_some(ArgRef::Input(BIAS)));
        args.extend(kernel.bias_gradient.then_some(ArgRef::Output(DBIAS)));
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
        let op = Attention { config, bias: false, backward: false };
        self.add_one(Arc::new(op), &[q, k, v, lengths])
    }

    /// The same with `bias` [1 or batch, heads, length, length] added to the scaled scores; its numbers are finite. One
    /// that serves all examples has a gradient that is summed over them.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors or the heads do not fit each other.
    pub fn attention_with_bias(
        &mut self,
        [q, k, v]: [TensorId; 3],
        lengths: TensorId,
        bias: TensorId,
        config: AttentionConfig,
    ) -> Result<TensorId, Error> {
        let op = Attention { config, bias: true, backward: false };
        self.add_one(Arc::new(op), &[q, k, v, lengths, bias])
    }
}
