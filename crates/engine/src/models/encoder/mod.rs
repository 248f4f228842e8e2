//! Transformer encoders, each family in a file of its own.
//!
//! Parameters have the names and shapes that Hugging Face transformers gives them.

pub mod albert;
pub mod bert;
pub mod deberta;
pub mod distilbert;
pub mod electra;
mod family;
mod file;
mod folder;
mod head;
pub mod modernbert;
pub mod mpnet;
mod names;
mod parameters;
mod pass;
pub mod roberta;
mod sentence;

use super::inputs::{Attends, Inputs, Pooling, TokenInput};
use super::weights::Naming;
use super::{LayerShape, Model, ModelConfig, Output, Outputs};
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::Activation;
use crate::store::ParameterSpec;
use crate::words::counted;

pub use family::{Encoder, Family, ReadFamily, SharedFamily};
pub use head::Head;
use names::LanguageNames;
use pass::{Pass, TAGGER, decoder_names};
pub use sentence::{Dense, SentenceModules, SentenceStep};
pub(super) use sentence::{FIRST_STEP, dense_folder};

/// BERT base for embeddings.
impl Default for Encoder {
    fn default() -> Self {
        Self {
            family: bert::Bert.into(),
            vocab_size: 30_522,
            hidden_size: 768,
            embedding_size: None,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            pad_token_id: 0,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: 0.1,
            head: Head::Embedding,
            tie_word_embeddings: true,
            sentence: SentenceModules::default(),
        }
    }
}

impl Encoder {
    /// Row of the position table, if there is one, for the first token: some families count from behind the padding
    /// token.
    fn first_position(&self) -> Option<usize> {
        let first = if self.family.counts_from_padding() { self.pad_token_id + 1 } else { 0 };
        self.family.has_positions().then_some(first)
    }

    /// Most tokens of a text.
    pub fn max_length(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position().unwrap_or(0))
    }

    /// What of a text its head works on.
    pub fn pooling(&self) -> Pooling {
        match self.head {
            Head::Classes(_) => self.family.classifier_pooling(),
            Head::Tokens(_) => Pooling::Words,
            Head::Span => Pooling::Tokens,
            Head::Embedding => self.sentence.pooling,
            Head::MaskedLanguage => Pooling::Masked,
        }
    }

    /// Numbers of an embedding of a text.
    pub fn sentence_width(&self) -> usize {
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
            attends: Attends::All,
        }
    }

    /// Whether a parameter has a row for each token.
    pub(super) fn is_of_tokens(&self, name: &str) -> bool {
        let decoder = decoder_names(self);
        name == self.family.names().words || decoder.iter().any(|own| own == name)
    }

    /// Beginnings of names that a file may have beside this model's. Where a model is started from one with another
    /// head, those of all heads.
    fn unneeded(&self, of_other_head: bool) -> Vec<String> {
        let names = self.family.names();
        let own = names.heads.of(self.head);
        let heads = names.heads.all().filter(|start| of_other_head || !own.contains(start));
        let bare = |start: &str| start.strip_prefix(names.prefix).unwrap_or(start).to_owned();
        let mut unneeded: Vec<String> =
            heads.chain(names.unused.iter().copied()).map(bare).collect();
        if self.head == Head::MaskedLanguage {
            // A tied decoder's copies of the table and the bias, or the bias that a decoder of its own leaves unused.
            let LanguageNames { bias, decoder, decoder_bias, .. } = names.language;
            unneeded.extend(match self.tie_word_embeddings {
                true => vec![format!("{decoder}.weight"), decoder_bias.to_owned()],
                false => vec![bias.to_owned()],
            });
        }
        unneeded
    }
}

impl Model for Encoder {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = self.family.trunk(self);
        specs.extend(self.family.head(self));
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
        let trunk = self.family.encode(&mut pass, inputs)?;
        let last = trunk.states[self.num_hidden_layers];
        let answer = pass.answer(last, inputs)?;
        Ok(Outputs { answer, states: trunk.states, attention: trunk.attention })
    }

    fn summary(&self) -> String {
        format!(
            "{} of {}, {}, hidden_size {}, intermediate_size {}, {}",
            self.family.names().model_type,
            counted(self.num_hidden_layers, "layer"),
            counted(self.num_attention_heads, "head"),
            self.hidden_size,
            self.intermediate_size,
            counted(self.vocab_size, "token")
        )
    }

    fn output(&self) -> Output {
        match self.head {
            Head::Classes(classes) => Output::Classes(classes),
            Head::Tokens(classes) => Output::Tokens(classes),
            Head::Span => Output::Span,
            Head::MaskedLanguage => Output::Vocabulary(self.vocab_size),
            Head::Embedding => Output::Embedding(self.sentence_width()),
        }
    }

    fn layers(&self) -> Option<LayerShape> {
        Some(LayerShape {
            count: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            heads: self.num_attention_heads,
        })
    }

    fn is_output(&self, name: &str) -> bool {
        let layer = match self.head {
            Head::Classes(_) => self.family.names().classes.classifier,
            Head::Tokens(_) => TAGGER,
            Head::Span => self.family.names().span,
            Head::MaskedLanguage | Head::Embedding => return false,
        };
        name.strip_prefix(layer).is_some_and(|part| part.starts_with('.'))
    }

    fn naming(&self, start: bool) -> Naming {
        let names = self.family.names();
        Naming {
            prefix: names.prefix,
            unneeded: self.unneeded(start),
            unneeded_ends: &[],
            fresh: if start { names.heads.of(self.head) } else { &[] },
        }
    }

    fn to_json(&self, config: &ModelConfig) -> serde_json::Value {
        file::to_json(self, config)
    }
}
