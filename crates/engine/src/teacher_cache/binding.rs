//! What a cache is bound to: the teacher that made it, and how it answered.

use serde::{Deserialize, Serialize};

use super::rows::RowFormat;
use crate::error::Error;
use crate::models::{DocumentHash, Input, ModelConfig, Output, Source};
use crate::recipe::Weights;
use crate::sealed::hex;

/// What is kept of a teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The last hidden states of each next token that counts: exact logits at any temperature, for any loss.
    Hidden,
    /// The answer to an example: logits of classes, numbers, or an embedding.
    Logits,
}

impl Kind {
    /// What can be kept of a model; else why nothing can.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn of(config: &ModelConfig) -> Result<Self, Error> {
        let masks = config.input.masks();
        match config.output() {
            Output::Vocabulary(_) if !masks => Ok(Self::Hidden),
            Output::Vocabulary(_) => Err(Error::Unsupported {
                what: "a cache holds one answer to a text, and a model of masked words is asked about others each time"
                    .to_owned(),
                instead: "let the teacher answer within the training: leave `teacher.cache` out".to_owned(),
            }),
            Output::Span | Output::Tokens(_) => Err(answers_are_long()),
            Output::Classes(_) | Output::Embedding(_) => Ok(Self::Logits),
        }
    }
}

fn answers_are_long() -> Error {
    Error::Unsupported {
        what: "an answer of this task is as long as its example, and a cache holds a row of numbers for each".to_owned(),
        instead: "let the teacher answer within the training: leave `teacher.cache` out".to_owned(),
    }
}

/// Hashes of what an answer depends on besides its document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Of the teacher's weights, as they lie in its files.
    pub teacher: String,
    /// Of its tokenizer's file.
    pub tokenizer: Option<String>,
    /// Of its chat template.
    pub template: Option<String>,
    /// What its matrices are stored in while it answers.
    pub quantisation: String,
}

impl Binding {
    /// Of a model whose parameters lie there, stored so while it answers.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(config: &ModelConfig, parameters: &Source, weights: Weights) -> Result<Self, Error> {
        let (mut one, mut other) = (crc32fast::Hasher::new(), 0);
        for index in 0..parameters.len() {
            let values = parameters.values(index)?;
            let bytes = bytemuck::cast_slice(&values);
            one.update(bytes);
            other = crc32c::crc32c_append(other, bytes);
        }
        let tokenizer = match &config.input {
            Input::Tokens(tokens) => tokens.tokenizer.as_deref(),
            Input::Numbers { .. } => None,
        };
        let template = tokenizer.and_then(|tokenizer| tokenizer.files().chat_template());
        Ok(Self {
            teacher: format!("{}{}", hex(one.finalize()), hex(other)),
            tokenizer: tokenizer
                .map(|tokenizer| DocumentHash::of(&[tokenizer.json().as_bytes()]).to_string()),
            template: template.map(|(_, text)| DocumentHash::of(&[text.as_bytes()]).to_string()),
            quantisation: weights.name().to_owned(),
        })
    }

    /// What of it is another in a cache, in words.
    pub fn differences(&self, cached: &Self) -> Vec<String> {
        let hash = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "none".to_owned());
        let pairs = [
            ("the teacher's weights", cached.teacher.clone(), self.teacher.clone()),
            ("its tokenizer", hash(&cached.tokenizer), hash(&self.tokenizer)),
            ("its chat template", hash(&cached.template), hash(&self.template)),
            ("its quantisation", cached.quantisation.clone(), self.quantisation.clone()),
        ];
        let differ = pairs.into_iter().filter(|(_, cached, own)| cached != own);
        differ.map(|(what, cached, own)| format!("{what} ({cached} there, {own} here)")).collect()
    }
}

/// What all files of a cache have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What is kept.
    pub kind: Kind,
    /// How its numbers are stored.
    pub numbers: RowFormat,
    /// Numbers of a row.
    pub width: usize,
    /// Whose answers these are.
    #[serde(flatten)]
    pub binding: Binding,
}

impl Identity {
    /// Of what is kept of a model.
    ///
    /// # Errors
    /// As [`Kind::of`].
    pub fn new(config: &ModelConfig, numbers: RowFormat, binding: Binding) -> Result<Self, Error> {
        let kind = Kind::of(config)?;
        let width = match kind {
            Kind::Hidden => config.model().layers().map_or(0, |layers| layers.hidden_size),
            Kind::Logits => config.answer_len(),
        };
        Ok(Self { kind, numbers, width, binding })
    }

    /// What of it is another in a cache, in words.
    pub fn differences(&self, cached: &Self) -> Vec<String> {
        let mut all = self.binding.differences(&cached.binding);
        if (self.kind, self.width) != (cached.kind, cached.width) {
            let shown =
                |one: &Self| format!("{:?} of {} numbers", one.kind, one.width).to_lowercase();
            all.push(format!("what is kept ({} there, {} here)", shown(cached), shown(self)));
        }
        if self.numbers != cached.numbers {
            let (there, here) = (cached.numbers.name(), self.numbers.name());
            all.push(format!("how numbers are stored ({there} there, {here} here)"));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let binding = |teacher: &str, template: Option<&str>| Binding {
            teacher: teacher.to_owned(),
            tokenizer: Some("t".to_owned()),
            template: template.map(str::to_owned),
            quantisation: "f32".to_owned(),
        };
        let own = binding("a", None);
        assert!(own.differences(&own).is_empty());
        let found = own.differences(&binding("b", Some("c")));
        assert_eq!(
            found,
            ["the teacher's weights (b there, a here)", "its chat template (c there, none here)"]
        );
        let identity =
            |numbers, binding| Identity { kind: Kind::Hidden, numbers, width: 4, binding };
        let own = identity(RowFormat::F16, own);
        assert!(own.differences(&own).is_empty());
        let other = Identity { width: 5, ..identity(RowFormat::Int8, own.binding.clone()) };
        let found = own.differences(&other).join("; ");
        assert!(
            found.contains("hidden of 5 numbers there") && found.contains("int8 there"),
            "{found}"
        );
    }
}
