//! A forward pass being added to a graph: what families share.

use distil_gpu_kernels::gather::sorted_order;
use distil_gpu_kernels::reduce::ReduceOp;

use super::family::Encoder;
use super::head::Head;
use super::names::{ClassesNames, LanguageNames};
use crate::error::Error;
use crate::graph::ops::{AttentionConfig, Decoder};
use crate::graph::{Graph, TensorId};
use crate::models::inputs::{Pooled, TokenTensors};
use crate::models::{Answer, SelfAttention};
use crate::nn::{self, Activation};

/// Hidden states, and what layers attend with.
#[derive(Debug)]
pub struct Trunk {
    /// Hidden states [rows, length, hidden_size] before the first layer and behind each.
    pub states: Vec<TensorId>,
    /// What each layer attends with.
    pub attention: Vec<SelfAttention>,
}

/// A forward pass being added to a graph.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The model.
    pub model: &'a Encoder,
    /// The graph.
    pub graph: &'a mut Graph,
    /// The store of the model's parameters.
    pub store: usize,
    /// Whether dropout acts.
    pub training: bool,
    /// Dropouts so far: each has random numbers of its own.
    pub dropped: u32,
}

fn unfit(inputs: &TokenTensors) -> Error {
    let needed = "what its head works on of a text".to_owned();
    Error::Shape { op: "encoder", found: format!("{:?}", inputs.pooled), needed }
}

impl Pass<'_> {
    /// Dropout at this rate, if it acts.
    ///
    /// # Errors
    /// [`Error::Shape`] for an integer tensor.
    pub fn dropout(&mut self, x: TensorId, rate: f32) -> Result<TensorId, Error> {
        let layer = self.next_dropout();
        nn::dropout(self.graph, x, if self.training { rate } else { 0.0 }, layer)
    }

    fn next_dropout(&mut self) -> u32 {
        self.dropped += 1;
        self.dropped
    }

    /// Whether the model has a parameter of this name.
    fn has(&self, name: &str) -> bool {
        self.graph.stores[self.store].parameters.iter().any(|spec| spec.name == name)
    }

    /// x · Wᵀ + b, or x · Wᵀ where there is no bias.
    ///
    /// # Errors
    /// [`Error::Shape`] when x and the weight do not meet.
    pub fn linear(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        if self.has(&format!("{name}.bias")) {
            return nn::linear(self.graph, self.store, name, x);
        }
        let weight = self.graph.named(self.store, &format!("{name}.weight"));
        self.graph.matmul(x, weight, false, true)
    }

    /// A layer norm; without a bias where the model has none.
    ///
    /// # Errors
    /// [`Error::Shape`] when x and the weight do not meet.
    pub fn norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        let part = |part: &str| format!("{name}.{part}");
        let weight = self.graph.named(self.store, &part("weight"));
        let bias = if self.has(&part("bias")) {
            self.graph.named(self.store, &part("bias"))
        } else {
            let shape = self.graph.shape(weight).to_vec();
            self.graph.constant(0.0, &shape)?
        };
        self.graph.layer_norm(x, weight, bias, self.model.layer_norm_eps)
    }

    /// How heads attend.
    pub fn attention_config(&mut self) -> AttentionConfig {
        let model = self.model;
        let head_size = model.hidden_size / model.num_attention_heads;
        let stream = self.next_dropout();
        AttentionConfig {
            heads: model.num_attention_heads,
            kv_heads: model.num_attention_heads,
            scale: 1.0 / (head_size as f32).sqrt(),
            causal: false,
            window: None,
            dropout: if self.training { model.attention_dropout } else { 0.0 },
            stream: nn::dropout_stream(stream),
        }
    }

    /// Hidden states before the first layer and behind each, of layers with their norms behind the sums. `bias`
    /// [1, heads, length, length] is added to every layer's scores.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    pub fn encode(
        &mut self,
        inputs: &TokenTensors,
        bias: Option<TensorId>,
    ) -> Result<Trunk, Error> {
        let mut states = vec![self.embed(inputs)?];
        let mut attention = Vec::new();
        for layer in 0..self.model.num_hidden_layers {
            let (state, attends) = self.layer(layer, states[layer], inputs, bias)?;
            states.push(state);
            attention.push(attends);
        }
        Ok(Trunk { states, attention })
    }

    /// The sum of the embeddings [rows, length, embedding width].
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit.
    pub fn sum_of_tables(&mut self, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let names = self.model.family.names();
        let tables = [
            (names.words, Some(inputs.tokens)),
            (names.positions, inputs.positions),
            (names.types, inputs.types),
        ];
        let mut sum = None;
        for (name, ids) in tables {
            let Some(ids) = ids else { continue };
            let table = self.graph.named(self.store, name);
            let rows = self.graph.gather(table, ids.ids, ids.order)?;
            sum = Some(match sum {
                Some(sum) => self.graph.plus(sum, rows)?,
                None => rows,
            });
        }
        Ok(sum.expect("tokens have numbers"))
    }

    /// Hidden states [rows, length, hidden_size] before the first layer.
    fn embed(&mut self, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let sum = self.sum_of_tables(inputs)?;
        let normed = self.norm(self.model.family.names().norm, sum)?;
        let dropped = self.dropout(normed, self.model.hidden_dropout)?;
        match self.model.family.projection(self.model) {
            Some(projection) => self.linear(projection, dropped),
            None => Ok(dropped),
        }
    }

    fn layer(
        &mut self,
        layer: usize,
        x: TensorId,
        inputs: &TokenTensors,
        bias: Option<TensorId>,
    ) -> Result<(TensorId, SelfAttention), Error> {
        let model = self.model;
        let (names, prefix) = (&model.family.names().layer, model.family.layer(layer));
        let name = |part: &str| format!("{prefix}{part}");
        let [query, key, value] = [names.query, names.key, names.value].map(name);
        let (q, k, v) = (self.linear(&query, x)?, self.linear(&key, x)?, self.linear(&value, x)?);
        let config = self.attention_config();
        let attended = match bias {
            None => self.graph.attention(q, k, v, inputs.lengths, config)?,
            Some(bias) => {
                self.graph.attention_with_bias([q, k, v], inputs.lengths, bias, config)?
            }
        };
        let (sum, rate) = ([names.attended, names.attention_norm], model.hidden_dropout);
        let x = self.add_and_norm(&prefix, sum, rate, attended, x)?;
        let state = self.feed_forward(&prefix, x)?;
        Ok((state, SelfAttention { queries: q, keys: k, values: v }))
    }

    /// norm(dropout(narrow(act(widen(x)))) + x), the parts of the layer whose names begin with `prefix`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    pub fn feed_forward(&mut self, prefix: &str, x: TensorId) -> Result<TensorId, Error> {
        let names = &self.model.family.names().layer;
        let wide = self.linear(&format!("{prefix}{}", names.widen), x)?;
        let wide = nn::activate(self.graph, self.model.activation, wide, 0.0, 0)?;
        let rate = self.model.family.output_dropout(self.model);
        self.add_and_norm(prefix, [names.narrow, names.output_norm], rate, wide, x)
    }

    /// norm(dropout(linear(y)) + x)
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    pub fn add_and_norm(
        &mut self,
        prefix: &str,
        [linear, norm]: [&str; 2],
        rate: f32,
        y: TensorId,
        x: TensorId,
    ) -> Result<TensorId, Error> {
        let y = self.linear(&format!("{prefix}{linear}"), y)?;
        let y = self.dropout(y, rate)?;
        let sum = self.graph.plus(y, x)?;
        self.norm(&format!("{prefix}{norm}"), sum)
    }

    /// What the head makes of the last hidden states.
    pub(super) fn answer(
        &mut self,
        last: TensorId,
        inputs: &TokenTensors,
    ) -> Result<Answer, Error> {
        let family = self.model.family.clone();
        Ok(match self.model.head {
            Head::Classes(_) => {
                let pooled = self.pool(last, inputs)?;
                Answer::Logits(family.classify(self, pooled)?)
            }
            Head::Tokens(_) => {
                let chosen = self.chosen(last, inputs)?;
                let chosen = family.before_linear(self, chosen)?;
                Answer::Logits(self.linear(TAGGER, chosen)?)
            }
            Head::Span => Answer::Span(self.span(last, inputs)?),
            Head::Embedding => {
                let pooled = self.pool(last, inputs)?;
                Answer::Embedding(self.model.sentence.apply(self.graph, self.store, pooled)?)
            }
            Head::MaskedLanguage => {
                let chosen = self.chosen(last, inputs)?;
                let hidden = family.transform(self, chosen)?;
                let [weight, bias] = decoder_names(self.model);
                let weight = self.graph.named(self.store, weight.as_str());
                let bias = if self.has(&bias) {
                    self.graph.named(self.store, &bias)
                } else {
                    self.graph.constant(0.0, &[self.model.vocab_size])?
                };
                Answer::Vocabulary(Decoder { hidden, weight, bias })
            }
        })
    }

    /// What stands for each text [rows, hidden_size], with zeros behind it where the head is to have more rows.
    fn pool(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let pooled = match inputs.pooled {
            Pooled::Weights(weights) => self.graph.matmul(weights, x, false, false)?,
            Pooled::Largest(mask) => {
                let masked = self.graph.plus(x, mask)?;
                self.graph.reduce(ReduceOp::Max, masked, 1, 1)?
            }
            Pooled::Masked(_) | Pooled::Tokens(_) => return Err(unfit(inputs)),
        };
        let rows = inputs.shape.rows;
        let pooled = self.graph.reshape(pooled, &[rows, self.model.hidden_size])?;
        if inputs.head_rows <= rows {
            return Ok(pooled);
        }
        let row = |row| if row < rows { row as i32 } else { -1 };
        let ids: Vec<i32> = (0..inputs.head_rows).map(row).collect();
        let order =
            self.graph.constant_i32("head rows in order", &[ids.len()], &sorted_order(&ids))?;
        let ids = self.graph.constant_i32("head rows", &[ids.len()], &ids)?;
        self.graph.gather(pooled, ids, order)
    }

    /// The hidden states [tokens, hidden_size] at the places that the head works on.
    fn chosen(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let Pooled::Masked(places) = inputs.pooled else { return Err(unfit(inputs)) };
        let states = self.graph.rows(x)?;
        self.graph.gather(states, places.ids, places.order)
    }

    /// Logits [rows, classes] of what stands for each text [rows, hidden_size].
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    pub fn classify(&mut self, pooled: TensorId) -> Result<TensorId, Error> {
        let model = self.model;
        let ClassesNames { dense, activation, classifier, drop_first } =
            model.family.names().classes;
        let rate = model.classifier_dropout;
        let pooled = if drop_first { self.dropout(pooled, rate)? } else { pooled };
        let dense = self.linear(dense, pooled)?;
        let active = nn::activate(self.graph, activation, dense, 0.0, 0)?;
        let active = self.dropout(active, rate)?;
        self.linear(classifier, active)
    }

    /// Logits of each token as the start (rows 2i) and as the end (rows 2i + 1) of an answer in text i
    /// [2 · rows, length]; those of padding are far below all others.
    fn span(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let Pooled::Tokens(mask) = inputs.pooled else { return Err(unfit(inputs)) };
        let (rows, length) = (inputs.shape.rows, inputs.shape.length);
        let family = self.model.family.clone();
        let (name, hidden) = (family.names().span, self.model.hidden_size);
        let states = self.graph.rows(x)?;
        let states = family.before_linear(self, states)?;
        let states = self.graph.reshape(states, &[rows, length, hidden])?;
        // A product with W on its left has the two rows of each text side by side, as a loss over tokens wants them.
        let weight = self.graph.named(self.store, &format!("{name}.weight"));
        let zeros = self.graph.constant(0.0, &[rows, 2, hidden])?;
        let weights = self.graph.plus(zeros, weight)?;
        let logits = self.graph.matmul(weights, states, false, true)?;
        let bias = self.graph.named(self.store, &format!("{name}.bias"));
        let bias = self.graph.reshape(bias, &[2, 1])?;
        let logits = self.graph.plus(logits, bias)?;
        let logits = self.graph.plus(logits, mask)?;
        self.graph.reshape(logits, &[2 * rows, length])
    }

    /// norm(act(linear(x))) of the masked tokens' hidden states, for the decoder.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    pub fn transform(
        &mut self,
        chosen: TensorId,
        activation: Activation,
    ) -> Result<TensorId, Error> {
        let LanguageNames { dense, norm, .. } = self.model.family.names().language;
        let dense = self.linear(dense, chosen)?;
        let active = nn::activate(self.graph, activation, dense, 0.0, 0)?;
        self.norm(norm, active)
    }
}

/// The linear layer of a token classifier, without `.weight` and `.bias`.
pub(super) const TAGGER: &str = "classifier";

/// Whole names of the weight and the bias of the decoder.
pub(super) fn decoder_names(model: &Encoder) -> [String; 2] {
    let names = model.family.names();
    let LanguageNames { bias, decoder, decoder_bias, .. } = names.language;
    if model.tie_word_embeddings {
        [names.words.to_owned(), bias.to_owned()]
    } else {
        [format!("{decoder}.weight"), decoder_bias.to_owned()]
    }
}
