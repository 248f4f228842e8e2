//! Transformer encoders of the BERT family: BERT (and MiniLM), DistilBERT, RoBERTa.
//!
//! Devlin et al. 2019, Sanh et al. 2019, Liu et al. 2019. Parameters have the names and shapes that Hugging Face
//! transformers gives them.

mod file;
mod head;
mod names;
mod sentence;

use distil_gpu_kernels::reduce::ReduceOp;

use super::inputs::{Inputs, Pooled, Pooling, TokenInput, TokenTensors};
use super::{Answer, Model, Outputs, SelfAttention};
use crate::error::Error;
use crate::graph::ops::{AttentionConfig, Decoder};
use crate::graph::{Graph, TensorId};
use crate::nn::{self, Activation};
use crate::store::{Init, ParameterSpec};
use names::{ClassifierNames, LanguageNames, LayerNames};

pub(super) use file::{from_json, to_json};
pub use head::Head;
pub use names::Family;
pub use sentence::{Dense, SentenceModules, SentenceStep};
pub(super) use sentence::{FIRST_STEP, dense_folder};

/// A stack of attention and feed-forward layers with a head on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// Whose names and details it has.
    pub family: Family,
    /// Tokens there are.
    pub vocab_size: usize,
    /// Width of a token's hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Width within a feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the position table.
    pub max_position_embeddings: usize,
    /// Rows of the table of token types; 0 without one.
    pub type_vocab_size: usize,
    /// Number of the padding token.
    pub pad_token_id: usize,
    /// Within a feed-forward layer.
    pub activation: Activation,
    /// Added to variances.
    pub layer_norm_eps: f32,
    /// Probability of dropping an element of a hidden state in training.
    pub hidden_dropout: f32,
    /// Probability of dropping an attention weight in training.
    pub attention_dropout: f32,
    /// Probability of dropping an element before the classifier in training.
    pub classifier_dropout: f32,
    /// What its hidden states are made into.
    pub head: Head,
    /// How a vector is made of them where the head is for embeddings; the default elsewhere.
    pub sentence: SentenceModules,
}

/// Spread of new weights, as in the papers' models.
const INITIALISER_RANGE: f32 = 0.02;

impl Encoder {
    /// Row of the position table for the first token: RoBERTa counts from behind the padding token.
    fn first_position(&self) -> usize {
        if self.family == Family::Roberta { self.pad_token_id + 1 } else { 0 }
    }

    /// Most tokens of a text.
    pub fn max_length(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    /// What of a text its head works on.
    pub fn pooling(&self) -> Pooling {
        match self.head {
            Head::Classes(_) => Pooling::First,
            Head::Embedding => self.sentence.pooling,
            Head::MaskedLanguage => Pooling::Masked,
        }
    }

    /// Numbers of an embedding.
    pub fn embedding_size(&self) -> usize {
        self.sentence.width(self.hidden_size)
    }

    /// Gives it another head. How vectors are made stays where the head is for embeddings.
    pub(super) fn set_head(&mut self, head: Head) {
        self.head = head;
        if head != Head::Embedding {
            self.sentence = SentenceModules::default();
        }
    }

    /// What it reads of a text, except how that becomes tokens.
    pub fn input(&self) -> TokenInput {
        TokenInput {
            tokenizer: None,
            vocab_size: self.vocab_size,
            max_length: self.max_length(),
            type_vocab_size: self.type_vocab_size,
            first_position: self.first_position(),
            pooling: self.pooling(),
        }
    }
}

fn table(name: String, rows: usize, columns: usize) -> ParameterSpec {
    ParameterSpec {
        name,
        shape: vec![rows, columns],
        decay: true,
        init: Init::Normal(INITIALISER_RANGE),
    }
}

fn bias_of(name: &str, outputs: usize) -> ParameterSpec {
    let (shape, init) = (vec![outputs], Init::Constant(0.0));
    ParameterSpec { name: name.to_owned(), shape, decay: false, init }
}

fn linear(name: &str, inputs: usize, outputs: usize) -> [ParameterSpec; 2] {
    let bias = bias_of(&format!("{name}.bias"), outputs);
    [table(format!("{name}.weight"), outputs, inputs), bias]
}

fn norm(name: &str, size: usize) -> [ParameterSpec; 2] {
    [("weight", 1.0), ("bias", 0.0)].map(|(part, start)| ParameterSpec {
        name: format!("{name}.{part}"),
        shape: vec![size],
        decay: false,
        init: Init::Constant(start),
    })
}

impl Model for Encoder {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let names = self.family.embeddings();
        let mut specs = vec![
            table(names.words, self.vocab_size, hidden),
            table(names.positions, self.max_position_embeddings, hidden),
        ];
        if self.type_vocab_size > 0 {
            specs.push(table(names.types, self.type_vocab_size, hidden));
        }
        specs.extend(norm(&names.norm, hidden));
        for layer in 0..self.num_hidden_layers {
            let names = self.family.layer(layer);
            for name in [&names.query, &names.key, &names.value, &names.attended] {
                specs.extend(linear(name, hidden, hidden));
            }
            specs.extend(norm(&names.attention_norm, hidden));
            specs.extend(linear(&names.widen, hidden, wide));
            specs.extend(linear(&names.narrow, wide, hidden));
            specs.extend(norm(&names.output_norm, hidden));
        }
        match self.head {
            Head::Classes(classes) => {
                let ClassifierNames { dense, classifier, .. } = self.family.classifier_names();
                specs.extend(linear(dense, hidden, hidden));
                specs.extend(linear(classifier, hidden, classes));
            }
            Head::MaskedLanguage => {
                let LanguageNames { dense, norm: names, bias } = self.family.language_names();
                specs.extend(linear(dense, hidden, hidden));
                specs.extend(norm(names, hidden));
                specs.push(bias_of(bias, self.vocab_size));
            }
            Head::Embedding => specs.extend(self.sentence.parameters()),
        }
        specs
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        let Inputs::Tokens(inputs) = inputs else {
            let needed = "a model of texts reads tokens".to_owned();
            return Err(Error::Shape { op: "encoder", found: format!("{inputs:?}"), needed });
        };
        let mut pass = Pass { model: self, graph, store, training, dropped: 0 };
        let mut states = vec![pass.embed(inputs)?];
        let mut attention = Vec::new();
        for layer in 0..self.num_hidden_layers {
            let (state, attends) = pass.layer(layer, states[layer], inputs)?;
            states.push(state);
            attention.push(attends);
        }
        let last = states[self.num_hidden_layers];
        let answer = match self.head {
            Head::Classes(_) => Answer::Logits(pass.classify(last, inputs)?),
            Head::Embedding => Answer::Embedding(pass.embedding(last, inputs)?),
            Head::MaskedLanguage => Answer::Vocabulary(pass.guess(last, inputs)?),
        };
        Ok(Outputs { answer, states, attention })
    }
}

fn unfit(inputs: &TokenTensors) -> Error {
    let needed = "what its head works on of a text".to_owned();
    Error::Shape { op: "encoder", found: format!("{:?}", inputs.pooled), needed }
}

/// A forward pass being added to a graph.
struct Pass<'a> {
    model: &'a Encoder,
    graph: &'a mut Graph,
    store: usize,
    training: bool,
    /// Dropouts so far: each has random numbers of its own.
    dropped: u32,
}

impl Pass<'_> {
    fn dropout(&mut self, x: TensorId, rate: f32) -> Result<TensorId, Error> {
        let layer = self.next_dropout();
        nn::dropout(self.graph, x, if self.training { rate } else { 0.0 }, layer)
    }

    fn next_dropout(&mut self) -> u32 {
        self.dropped += 1;
        self.dropped
    }

    fn linear(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        nn::linear(self.graph, self.store, name, x)
    }

    fn norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, Error> {
        let part = |part: &str| format!("{name}.{part}");
        let weight = self.graph.named(self.store, &part("weight"));
        let bias = self.graph.named(self.store, &part("bias"));
        self.graph.layer_norm(x, weight, bias, self.model.layer_norm_eps)
    }

    /// Hidden states [rows, length, hidden_size] before the first layer.
    fn embed(&mut self, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let names = self.model.family.embeddings();
        let tables = [
            (&names.words, Some(inputs.tokens)),
            (&names.positions, Some(inputs.positions)),
            (&names.types, inputs.types),
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
        let sum = sum.expect("tokens have numbers");
        let normed = self.norm(&names.norm, sum)?;
        self.dropout(normed, self.model.hidden_dropout)
    }

    fn layer(
        &mut self,
        layer: usize,
        x: TensorId,
        inputs: &TokenTensors,
    ) -> Result<(TensorId, SelfAttention), Error> {
        let model = self.model;
        let names: LayerNames = model.family.layer(layer);
        let [query, key, value] = [&names.query, &names.key, &names.value];
        let (q, k, v) = (self.linear(query, x)?, self.linear(key, x)?, self.linear(value, x)?);
        let head_size = model.hidden_size / model.num_attention_heads;
        let stream = self.next_dropout();
        let config = AttentionConfig {
            heads: model.num_attention_heads,
            scale: 1.0 / (head_size as f32).sqrt(),
            causal: false,
            window: None,
            dropout: if self.training { model.attention_dropout } else { 0.0 },
            stream: nn::dropout_stream(stream),
        };
        let attended = self.graph.attention(q, k, v, inputs.lengths, config)?;
        let x = self.add_and_norm(&names.attended, &names.attention_norm, attended, x)?;
        let wide = self.linear(&names.widen, x)?;
        let wide = nn::activate(self.graph, model.activation, wide, 0.0, 0)?;
        let state = self.add_and_norm(&names.narrow, &names.output_norm, wide, x)?;
        Ok((state, SelfAttention { queries: q, keys: k, values: v }))
    }

    /// norm(dropout(linear(y)) + x)
    fn add_and_norm(
        &mut self,
        linear: &str,
        norm: &str,
        y: TensorId,
        x: TensorId,
    ) -> Result<TensorId, Error> {
        let y = self.linear(linear, y)?;
        let y = self.dropout(y, self.model.hidden_dropout)?;
        let sum = self.graph.plus(y, x)?;
        self.norm(norm, sum)
    }

    /// What stands for each text [rows, hidden_size].
    fn pool(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let pooled = match inputs.pooled {
            Pooled::Weights(weights) => self.graph.matmul(weights, x, false, false)?,
            Pooled::Largest(mask) => {
                let masked = self.graph.plus(x, mask)?;
                self.graph.reduce(ReduceOp::Max, masked, 1, 1)?
            }
            Pooled::Masked(_) => return Err(unfit(inputs)),
        };
        self.graph.reshape(pooled, &[inputs.shape.rows, self.model.hidden_size])
    }

    /// A vector of each text, as sentence-transformers makes it [rows, embedding_size].
    fn embedding(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let pooled = self.pool(x, inputs)?;
        self.model.sentence.apply(self.graph, self.store, pooled)
    }

    /// Logits [rows, classes].
    fn classify(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<TensorId, Error> {
        let model = self.model;
        let ClassifierNames { dense, activation, classifier, drop_first } =
            model.family.classifier_names();
        let pooled = self.pool(x, inputs)?;
        let rate = model.classifier_dropout;
        let pooled = if drop_first { self.dropout(pooled, rate)? } else { pooled };
        let dense = self.linear(dense, pooled)?;
        let active = nn::activate(self.graph, activation, dense, 0.0, 0)?;
        let active = self.dropout(active, rate)?;
        self.linear(classifier, active)
    }

    /// The masked tokens' hidden states, ready for the decoder, whose weight is the table of words.
    fn guess(&mut self, x: TensorId, inputs: &TokenTensors) -> Result<Decoder, Error> {
        let Pooled::Masked(places) = inputs.pooled else { return Err(unfit(inputs)) };
        let model = self.model;
        let LanguageNames { dense, norm, bias } = model.family.language_names();
        let states = self.graph.rows(x)?;
        let chosen = self.graph.gather(states, places.ids, places.order)?;
        let dense = self.linear(dense, chosen)?;
        // RoBERTa's head has this one whatever its layers have.
        let activation = match model.family {
            Family::Roberta => Activation::Gelu,
            Family::Bert | Family::DistilBert => model.activation,
        };
        let active = nn::activate(self.graph, activation, dense, 0.0, 0)?;
        let hidden = self.norm(norm, active)?;
        let weight = self.graph.named(self.store, &model.family.embeddings().words);
        let bias = self.graph.named(self.store, bias);
        Ok(Decoder { hidden, weight, bias })
    }
}
