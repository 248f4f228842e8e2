//! The forward pass of a decoder: norms in front of attention and of the feed-forward network, both added to what came in.

use super::family::Queries;
use super::{Biases, Decoder, FeedForward, Positions, Rope};
use crate::error::Error;
use crate::graph::ops::{AttentionConfig, Decoder as Vocabulary};
use crate::graph::{Graph, TensorId};
use crate::models::{Answer, Outputs, Pooled, SelfAttention, TokenTensors};
use crate::nn;

/// A forward pass as it is added to a graph.
pub(super) struct Pass<'a> {
    pub model: &'a Decoder,
    pub graph: &'a mut Graph,
    store: usize,
    training: bool,
    /// Dropouts so far, which tell their masks apart.
    dropped: u32,
    /// Cosines and sines of positions, where they turn: of layers that see everything, and of those that see a window.
    angles: Option<[[TensorId; 2]; 2]>,
    /// What each layer adds is multiplied by these, if there are any, [1] each.
    gates: Vec<TensorId>,
    /// What heads attended to [rows, length, query width], and units [rows, length, intermediate_size], layer by layer.
    parts: Vec<TensorId>,
}

impl Decoder {
    /// Cosines and sines of so many positions, where they turn: of layers that see everything, and of those that see a window.
    pub(super) fn rotary_tables(
        &self,
        graph: &mut Graph,
        positions: usize,
    ) -> Result<Option<[[TensorId; 2]; 2]>, Error> {
        let Positions::Rotary(rope) = &self.positions else { return Ok(None) };
        let mut tables = |rope: &Rope| {
            let (frequencies, factor) = rope.frequencies(self.head_dim);
            graph.rotary_tables(positions, &frequencies, factor)
        };
        let full = tables(rope)?;
        let near = self.near_rope.as_ref().map_or(Ok(full), tables)?;
        Ok(Some([full, near]))
    }
}

fn unfit(inputs: &TokenTensors) -> Error {
    let needed = "tokens with the ranges that they see, and the places to guess at".to_owned();
    Error::Shape { op: "decoder", found: format!("{inputs:?}"), needed }
}

/// Adds the forward pass to a graph. Beside its outputs, what heads attended to and units, layer by layer.
pub(super) fn forward(
    model: &Decoder,
    graph: &mut Graph,
    store: usize,
    inputs: &TokenTensors,
    training: bool,
    gates: Vec<TensorId>,
) -> Result<(Outputs, Vec<TensorId>), Error> {
    let angles = model.rotary_tables(graph, inputs.shape.length)?;
    let mut pass = Pass { training, angles, gates, ..Pass::new(model, graph, store) };
    let positions = inputs.positions.map(|positions| [positions.ids, positions.order]);
    let tokens = [inputs.tokens.ids, inputs.tokens.order];
    let mut states = vec![pass.embed(tokens, positions)?];
    let mut attention = Vec::new();
    for layer in 0..model.num_hidden_layers {
        let (x, attends) = pass.attend(layer, states[layer], inputs)?;
        states.push(pass.feed_forward(layer, x)?);
        attention.push(attends);
    }
    let Pooled::Masked(places) = inputs.pooled else { return Err(unfit(inputs)) };
    let last = states[model.num_hidden_layers];
    let answer = Answer::Vocabulary(pass.vocabulary(last, [places.ids, places.order])?);
    let Pass { parts, .. } = pass;
    Ok((Outputs { answer, states, attention }, parts))
}

/// The head on last hidden states [tokens, hidden_size].
pub(super) fn head(
    model: &Decoder,
    graph: &mut Graph,
    store: usize,
    hidden: TensorId,
) -> Result<Vocabulary, Error> {
    let weight = graph.named(store, model.head());
    let bias = graph.constant(0.0, &[model.vocab_size])?;
    Ok(Vocabulary { hidden, weight, bias })
}

impl<'a> Pass<'a> {
    /// Of a model that is not in training, before it is known where its tokens stand.
    pub fn new(model: &'a Decoder, graph: &'a mut Graph, store: usize) -> Self {
        let (gates, parts) = (Vec::new(), Vec::new());
        Self { model, graph, store, training: false, dropped: 0, angles: None, gates, parts }
    }

    /// What is guessed at these places of all hidden states [rows, length, hidden_size]; the places are row numbers, and
    /// their order.
    pub fn vocabulary(
        &mut self,
        states: TensorId,
        [places, order]: [TensorId; 2],
    ) -> Result<Vocabulary, Error> {
        let rows = self.graph.rows(states)?;
        let chosen = self.graph.gather(rows, places, order)?;
        let hidden = self.norm(self.model.names().last_norm, chosen)?;
        head(self.model, self.graph, self.store, hidden)
    }

    fn dropout(&mut self, x: TensorId, rate: f32) -> Result<TensorId, Error> {
        self.dropped += 1;
        let rate = if self.training { rate } else { 0.0 };
        nn::dropout(self.graph, x, rate, self.dropped)
    }

    /// What a layer adds, by its gate if there are any.
    fn gated(&mut self, layer: usize, out: TensorId) -> Result<TensorId, Error> {
        match self.gates.get(layer) {
            Some(&gate) => self.graph.mul(out, gate),
            None => Ok(out),
        }
    }

    /// x · W + b, W lying as the family's files have it.
    fn linear(&mut self, name: &str, x: TensorId, bias: bool) -> Result<TensorId, Error> {
        let weight = self.graph.named(self.store, &format!("{name}.weight"));
        let transposed = self.model.names().transposed;
        let product = self.graph.matmul(x, weight, false, !transposed)?;
        match bias {
            true => {
                let bias = self.graph.named(self.store, &format!("{name}.bias"));
                self.graph.plus(product, bias)
            }
            false => Ok(product),
        }
    }

    fn norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        let weight = self.graph.named(self.store, &format!("{name}.weight"));
        let eps = self.model.norm_eps;
        if self.model.names().norm_bias {
            let bias = self.graph.named(self.store, &format!("{name}.bias"));
            return self.graph.layer_norm(x, weight, bias, eps);
        }
        let weight = match self.model.names().norms_add_one {
            true => self.graph.affine(weight, 1.0, 1.0)?,
            false => weight,
        };
        self.graph.rms_norm(x, weight, eps)
    }

    /// What a part of a layer adds, normed where the family does that: of attention 0, of the feed-forward network 1.
    fn normed_behind(
        &mut self,
        layer: usize,
        part: usize,
        out: TensorId,
    ) -> Result<TensorId, Error> {
        match self.model.names().norms_behind {
            Some(names) => self.norm(&format!("{}{}", self.model.layer(layer), names[part]), out),
            None => Ok(out),
        }
    }

    /// Hidden states [rows, length, hidden_size] before the first layer.
    pub fn embed(
        &mut self,
        [tokens, order]: [TensorId; 2],
        positions: Option<[TensorId; 2]>,
    ) -> Result<TensorId, Error> {
        let names = self.model.names();
        let table = self.graph.named(self.store, names.words);
        let mut x = self.graph.gather(table, tokens, order)?;
        if names.scales_words {
            x = self.graph.affine(x, (self.model.hidden_size as f32).sqrt(), 0.0)?;
        }
        if let (Positions::Learnt, Some([positions, order])) = (&self.model.positions, positions) {
            let table = self.graph.named(self.store, names.positions);
            let rows = self.graph.gather(table, positions, order)?;
            x = self.graph.plus(x, rows)?;
        }
        self.dropout(x, self.model.dropout.embedding)
    }

    /// Queries [rows, length, query width], and keys and values [rows, length, key width].
    fn queries(&mut self, prefix: &str, x: TensorId) -> Result<[TensorId; 3], Error> {
        let bias = self.model.biases.queries;
        match self.model.names().queries {
            Queries::Apart { query, key, value } => {
                let mut made = [x; 3];
                for (made, part) in made.iter_mut().zip([query, key, value]) {
                    *made = self.linear(&format!("{prefix}{part}"), x, bias)?;
                }
                Ok(made)
            }
            Queries::Joined(part) => {
                let joined = self.linear(&format!("{prefix}{part}"), x, bias)?;
                let parts = self.graph.split_last(joined, 3)?;
                Ok([parts[0], parts[1], parts[2]])
            }
        }
    }

    /// A norm of each head's columns [rows, length, heads · head_dim].
    fn norm_of_heads(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        let shape = self.graph.shape(x).to_vec();
        let len: usize = shape.iter().product();
        let head_dim = self.model.head_dim;
        let heads = self.graph.reshape(x, &[len / head_dim, head_dim])?;
        let normed = self.norm(name, heads)?;
        self.graph.reshape(normed, &shape)
    }

    /// x + attended(attention(norm(x))), and what it attends with.
    fn attend(
        &mut self,
        layer: usize,
        x: TensorId,
        inputs: &TokenTensors,
    ) -> Result<(TensorId, SelfAttention), Error> {
        let model = self.model;
        let [mut queries, mut keys, values] = self.attention_inputs(layer, x)?;
        let near = model.windows[layer].is_some();
        if let Some(angles) = self.angles {
            let [cos, sin] = angles[usize::from(near)];
            queries = self.graph.rotary(queries, cos, sin, model.num_attention_heads)?;
            keys = self.graph.rotary(keys, cos, sin, model.num_key_value_heads)?;
        }
        let ranges = if near { inputs.near_ranges } else { inputs.ranges };
        let ranges = ranges.ok_or_else(|| unfit(inputs))?;
        let config = self.attention_config();
        let attended = self.graph.attention_in_ranges([queries, keys, values], ranges, config)?;
        Ok((self.add_attended(layer, attended, x)?, SelfAttention { queries, keys, values }))
    }

    /// Queries, keys and values of a layer, before they turn.
    pub fn attention_inputs(&mut self, layer: usize, x: TensorId) -> Result<[TensorId; 3], Error> {
        let (names, prefix) = (self.model.names(), self.model.layer(layer));
        let normed = self.norm(&format!("{prefix}{}", names.attention_norm), x)?;
        let [mut queries, mut keys, values] = self.queries(&prefix, normed)?;
        if self.model.qk_norm {
            queries = self.norm_of_heads(&format!("{prefix}{}", names.query_norm), queries)?;
            keys = self.norm_of_heads(&format!("{prefix}{}", names.key_norm), keys)?;
        }
        Ok([queries, keys, values])
    }

    /// How heads attend.
    pub fn attention_config(&mut self) -> AttentionConfig {
        let model = self.model;
        self.dropped += 1;
        let scale = 1.0 / model.score_scalar.unwrap_or(model.head_dim as f32).sqrt();
        AttentionConfig {
            kv_heads: model.num_key_value_heads,
            dropout: if self.training { model.dropout.attention } else { 0.0 },
            stream: nn::dropout_stream(self.dropped),
            ..AttentionConfig::new(model.num_attention_heads, scale)
        }
    }

    /// x + what was attended to, projected.
    pub fn add_attended(
        &mut self,
        layer: usize,
        attended: TensorId,
        x: TensorId,
    ) -> Result<TensorId, Error> {
        let name = format!("{}{}", self.model.layer(layer), self.model.names().attended);
        self.parts.push(attended);
        let out = self.linear(&name, attended, self.model.biases.attended)?;
        let out = self.normed_behind(layer, 0, out)?;
        let out = self.gated(layer, out)?;
        let out = self.dropout(out, self.model.dropout.residual)?;
        self.graph.plus(x, out)
    }

    /// x + narrow(act(norm(x))).
    pub fn feed_forward(&mut self, layer: usize, x: TensorId) -> Result<TensorId, Error> {
        let (names, prefix) = (self.model.names(), self.model.layer(layer));
        let name = |part: &str| format!("{prefix}{part}");
        let Biases { feed_forward: bias, .. } = self.model.biases;
        let normed = self.norm(&name(names.feed_forward_norm), x)?;
        let wide = match self.model.feed_forward {
            FeedForward::Gated(gate) => {
                let gates = self.linear(&name(names.gate), normed, bias)?;
                let values = self.linear(&name(names.widen), normed, bias)?;
                self.graph.gated(gates, values, gate)?
            }
            FeedForward::Plain(activation) => {
                let wide = self.linear(&name(names.widen), normed, bias)?;
                nn::activate(self.graph, activation, wide, 0.0, 0)?
            }
        };
        self.parts.push(wide);
        let out = self.linear(&name(names.narrow), wide, bias)?;
        let out = self.normed_behind(layer, 1, out)?;
        let out = self.gated(layer, out)?;
        let out = self.dropout(out, self.model.dropout.residual)?;
        self.graph.plus(x, out)
    }
}
