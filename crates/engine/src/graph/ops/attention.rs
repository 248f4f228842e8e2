//! Multi-head attention over padded or packed batches.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::attention::{self, MAX_HEAD_DIM};
use distil_gpu_onnx::{Attribute, ElementType};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::{Export, Extent};
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// How heads attend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Heads that the columns of q are shared out to.
    pub heads: usize,
    /// Heads that the columns of k and v are shared out to, each of which serves as many neighbours of those.
    pub kv_heads: usize,
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

impl AttentionConfig {
    /// So many heads of queries and of keys, without mask and dropout.
    pub fn new(heads: usize, scale: f32) -> Self {
        Self { heads, kv_heads: heads, scale, causal: false, window: None, dropout: 0.0, stream: 0 }
    }
}

/// Which keys queries see, besides what [`AttentionConfig`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mask {
    /// Those that are no padding.
    Lengths,
    /// Those, and a bias is added to the scores.
    Bias,
    /// Those that are told.
    Ranges,
}

/// Inputs: q [batch, length, heads · head_dim], k, v [batch, length, kv_heads · head_dim], lengths \[batch] (integers: from
/// there on, an example's keys are padding), and with `bias` what is added to the scaled scores, finite, [1 or batch, heads, length, length]. Outputs:
/// softmax(scale · q · kᵀ + bias + mask) · v of q's shape, and the logarithms of the softmax's denominators
/// [batch, heads, length].
///
/// `backward`: further inputs are both outputs and the first one's gradient; outputs: dq, dk, dv of q's shape, what its
/// launches tell each other [batch, heads, length, 2] (with a bias [batch · (2 · heads · length + 1)]), and the bias's
/// gradient, which one that serves all examples has summed over them.
///
/// With ranges, k and v are [batch, keys, kv_heads · head_dim]; in the place of the lengths are the first key that each
/// query sees and the end [batch, length, 2], and behind them the first query that sees each key and the end
/// [batch, keys, 2], which the gradient reads.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Heads, mask and dropout.
    pub config: AttentionConfig,
    /// Which keys queries see.
    mask: Mask,
    /// The gradients instead.
    pub backward: bool,
}

/// Added in an ONNX file to the scores of keys that are not seen: e to it is 0 in f32, and f16 holds it.
pub const UNSEEN: f32 = -1e4;

const LSE: usize = 1;
/// Input of the numbers of keys that are no padding.
const LENGTHS: usize = 3;
/// Input of the bias, or of the keys' ranges.
const BIAS: usize = 4;
/// Output of its gradient.
const DBIAS: usize = 4;

impl Attention {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<attention::Attention, Error> {
        let AttentionConfig { heads, kv_heads, scale, causal, window, dropout, stream } =
            self.config;
        let error = || mismatch(self.name(), inputs, &self.needed());
        let (&[batch, length, columns], &[_, keys, kv_columns]) =
            (&inputs[0].shape[..], &inputs[1].shape[..])
        else {
            return Err(error());
        };
        let bias = inputs.get(BIAS).filter(|_| self.mask == Mask::Bias);
        let integers = |input: usize, shape: &[usize]| {
            inputs.get(input).is_some_and(|t| t.shape == shape && t.dtype == DType::I32)
        };
        let mask_fits = match self.mask {
            Mask::Lengths => integers(3, &[batch]),
            Mask::Bias => {
                let bias_fits = bias.is_some_and(|bias| {
                    let of_head = [1, batch].map(|examples| vec![examples, heads, length, length]);
                    let countable = i32::try_from(bias.len()).is_ok();
                    bias.dtype == DType::F32 && of_head.contains(&bias.shape) && countable
                });
                integers(3, &[batch]) && bias_fits && kv_heads == heads
            }
            Mask::Ranges => {
                let of_keys = inputs.len() == BIAS || integers(BIAS, &[batch, keys, 2]);
                let told = integers(3, &[batch, length, 2]) && of_keys;
                told && !causal && window.is_none()
            }
        };
        let floats = inputs[..3].iter().all(|t| t.dtype == DType::F32 && t.shape[0] == batch);
        let alike = inputs[1].shape == inputs[2].shape && floats;
        let as_many = keys == length || self.mask == Mask::Ranges;
        let window_fits = window.is_none_or(|window| window > 0 || !causal);
        let shares = kv_heads > 0 && heads.is_multiple_of(kv_heads);
        let divides = heads > 0 && columns.is_multiple_of(heads) && columns / heads <= MAX_HEAD_DIM;
        let fits = alike && as_many && mask_fits && window_fits && shares && divides;
        let wide = fits && kv_columns == columns / heads * kv_heads;
        let empty = inputs[..2].iter().any(|t| t.is_empty());
        if !wide || empty || !(0.0..1.0).contains(&dropout) {
            return Err(error());
        }
        Ok(attention::Attention {
            keys,
            kv_heads,
            causal,
            window,
            ranges: self.mask == Mask::Ranges,
            bias: bias.map(|bias| bias.shape[0]),
            dropout,
            stream,
            backward: self.backward,
            ..attention::Attention::new([batch, length, heads, columns / heads], scale)
        })
    }

    /// What inputs have to be.
    fn needed(&self) -> String {
        let AttentionConfig { heads, kv_heads, .. } = self.config;
        let (mask, rows) = match self.mask {
            Mask::Lengths => ("lengths [batch]", "length"),
            Mask::Bias => (
                "lengths [batch], and a bias [1 or batch, heads, length, length] with as many heads of keys",
                "length",
            ),
            Mask::Ranges => (
                "ranges [batch, length, 2] and [batch, keys, 2] in the place of a causal mask and a window",
                "keys",
            ),
        };
        format!(
            "q [batch, length, columns], with columns for {heads} heads of at most {MAX_HEAD_DIM}, k and v \
             [batch, {rows}, columns], with columns for {kv_heads} that share them out, {mask}; a causal window of at \
             least 1"
        )
    }
}

/// What is added to scores [length, length] where keys are further from their query than the window is wide.
fn window_mask(at: &mut Export<'_, '_>, window: usize) -> String {
    let distances = at.distances();
    let distances = at.node("Abs", &[&distances], &[]);
    let window = at.to().integers("window", &[], &[window as i64]);
    let beyond = at.node("Greater", &[&distances, &window], &[]);
    let beyond = at.node("Cast", &[&beyond], &[("to", Attribute::Int(ElementType::F32 as i64))]);
    let unseen = at.scalar(UNSEEN);
    at.node("Mul", &[&beyond, &unseen], &[])
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
        let mut shapes = vec![whole, inputs[1].shape.clone(), inputs[2].shape.clone()];
        match inputs.get(BIAS).filter(|_| self.mask == Mask::Bias) {
            Some(bias) => {
                shapes.extend([vec![batch * (2 * heads * length + 1)], bias.shape.clone()]);
            }
            None => shapes.push(vec![batch, heads, length, 2]),
        }
        Ok(shapes)
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let no_key_ranges = self.mask == Mask::Ranges && at.node.inputs.len() == BIAS;
        if self.backward || at.has_upstream(LSE) || no_key_ranges {
            return Err(at.missing(self.name()));
        }
        let mut inputs = at.node.inputs.clone();
        inputs.extend([at.output(0), at.output(LSE), at.upstream(0)]);
        let made = at.graph.add(Arc::new(Self { backward: true, ..*self }), &inputs)?;
        let mut gradients = vec![Some(made[0]), Some(made[1]), Some(made[2]), None];
        match self.mask {
            Mask::Lengths => {}
            Mask::Bias => gradients.push(made.get(DBIAS).copied()),
            Mask::Ranges => gradients.push(None),
        }
        Ok(gradients)
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let mut kernel = self.kernel(&site.inputs)?;
        let biased = self.mask == Mask::Bias;
        kernel.bias_gradient = self.backward && biased && site.wanted[DBIAS];
        // The bias and the keys' ranges are operands behind what plain attention has.
        let plain = self.mask == Mask::Lengths;
        let inputs = (0..site.inputs.len()).filter(|&input| plain || input != BIAS);
        let mut args: Vec<ArgRef> = inputs.map(ArgRef::Input).collect();
        args.extend((0..site.outputs.len().min(DBIAS)).map(ArgRef::Output));
        args.extend((biased || kernel.ranges && self.backward).then_some(ArgRef::Input(BIAS)));
        args.extend(kernel.bias_gradient.then_some(ArgRef::Output(DBIAS)));
        Ok(vec![Lowered::new(kernel, args)])
    }

    /// As transformers' models are exported, which onnxruntime knows as one op.
    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let AttentionConfig { heads, kv_heads, scale, causal, window, dropout, .. } = self.config;
        if self.backward
            || self.mask == Mask::Ranges
            || causal
            || kv_heads != heads
            || dropout > 0.0
        {
            return Err(at.unsupported("attention of a decoder, or in training"));
        }
        let whole = at.input_extents(0);
        let fixed = |times| Extent { rows: 0, length: 0, times };
        let of_heads = [whole[0], whole[1], fixed(heads), fixed(whole[2].times / heads)];
        let mut headed = |input, axes: &[i64]| -> Result<String, Error> {
            let x = at.input(input)?;
            let x = at.reshaped(&x, &whole, &of_heads);
            Ok(at.permuted(&x, axes))
        };
        let q = headed(0, &[0, 2, 1, 3])?;
        let k = headed(1, &[0, 2, 3, 1])?;
        let v = headed(2, &[0, 2, 1, 3])?;
        let scores = at.node("MatMul", &[&q, &k], &[]);
        let divisor = at.scalar(1.0 / scale);
        let mut scores = at.node("Div", &[&scores, &divisor], &[]);
        if self.mask == Mask::Bias {
            let bias = at.input(BIAS)?;
            scores = at.node("Add", &[&scores, &bias], &[]);
        }
        if let Some(window) = window {
            let mask = window_mask(at, window);
            scores = at.node("Add", &[&scores, &mask], &[]);
        }
        let mask = at.key_mask(LENGTHS)?;
        let scores = at.node("Add", &[&scores, &mask], &[]);
        let weights = at.node("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let seen = at.node("MatMul", &[&weights, &v], &[]);
        let seen = at.permuted(&seen, &[0, 2, 1, 3]);
        let seen = at.reshaped(&seen, &of_heads, &whole);
        at.set(0, seen);
        Ok(())
    }
}

impl Graph {
    /// Self-attention of q, k and v [batch, length, heads · head_dim]; from position lengths\[b] on, the keys of
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
        let op = Attention { config, mask: Mask::Lengths, backward: false };
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
        let op = Attention { config, mask: Mask::Bias, backward: false };
        self.add_one(Arc::new(op), &[q, k, v, lengths, bias])
    }

    /// Attention of q [batch, length, heads · head_dim] to keys and values [batch, keys, kv_heads · head_dim] where each query
    /// sees a range of keys: [batch, length, 2], the first and the end; `of_keys` [batch, keys, 2] are the queries that see
    /// each key. Neither end of a range comes before that of the row above. Of q's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors or the heads do not fit each other.
    pub fn attention_in_ranges(
        &mut self,
        [q, k, v]: [TensorId; 3],
        [of_queries, of_keys]: [TensorId; 2],
        config: AttentionConfig,
    ) -> Result<TensorId, Error> {
        let op = Attention { config, mask: Mask::Ranges, backward: false };
        self.add_one(Arc::new(op), &[q, k, v, of_queries, of_keys])
    }

    /// The same where nothing is learnt, so that it need not be told which queries see a key.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors or the heads do not fit each other.
    pub fn attention_to_cache(
        &mut self,
        [q, k, v]: [TensorId; 3],
        of_queries: TensorId,
        config: AttentionConfig,
    ) -> Result<TensorId, Error> {
        let op = Attention { config, mask: Mask::Ranges, backward: false };
        self.add_one(Arc::new(op), &[q, k, v, of_queries])
    }
}
