//! Masked tokens of a text are guessed (Devlin et al. 2019).

use super::asked::{Asked, TeacherKind, refusal, texts_alone};
use super::contract::{BatchRows, Counted, LossInputs, Measured, Measuring, Task};
use super::language::{self, ENTROPY, KL};
use crate::data::{Dataset, LabelKind};
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{BatchEncoder, Draw, Head, HostBatch, Input, ModelConfig, Output};
use crate::results::{ACCURACY, ERRORS, Examples, Format, Measure, Scores};
use crate::words::counted_thousands;

/// To guess the masked tokens of a text; needs no labels.
#[derive(Debug)]
pub(super) struct MaskedLm;

impl Task for MaskedLm {
    fn name(&self) -> &'static str {
        "masked-lm"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::None
    }

    fn has_softmax(&self) -> bool {
        true
    }

    fn refuses(&self, asked: &Asked) -> Option<[String; 2]> {
        texts_alone(asked).or_else(|| match asked.teacher {
            TeacherKind::Answers => refusal(
                "the teacher of a masked language model cannot be a file of logits, as its answers are too many to keep",
                "give the `folder` of a model, or a `model` to train",
            ),
            _ => None,
        })
    }

    fn check_models(&self, teacher: &ModelConfig, student: &ModelConfig) -> Result<(), Error> {
        let tokens = |config: &ModelConfig| match &config.input {
            Input::Tokens(tokens) => {
                Some((tokens.tokenizer.clone(), tokens.vocab_size, tokens.max_length))
            }
            Input::Numbers { .. } => None,
        };
        if tokens(teacher) == tokens(student) {
            return Ok(());
        }
        Err(Error::Model {
            path: "student.model".to_owned(),
            problem: "teacher and student guess the same tokens: they need the same tokenizer and `max_length`"
                .to_owned(),
        })
    }

    fn head(&self, _: usize) -> Head {
        Head::MaskedLanguage
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Vocabulary(_)) && model.input.masks()
    }

    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        let unfit = || Error::Unsupported {
            what: "this model guesses no masked tokens, and its student learns to".to_owned(),
            instead: "give the `folder` of a masked language model, or a `model` to train"
                .to_owned(),
        };
        language::loss(graph, of, unfit)
    }

    fn answers_once(&self) -> bool {
        false
    }

    /// They are written with the masked tokens.
    fn fill_labels(&self, _: &BatchRows<'_>, _: &mut HostBatch) {}

    /// As many in every epoch.
    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        let count = |&row: &u32| of.feed.masked(row, Draw::FIXED).map_or(0, |m| m.places.len());
        let rows = of.indices.iter().map(count).sum();
        Counted { rows, labelled: rows }
    }

    fn measuring(&self) -> Measuring {
        Measuring::Loss
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 5] = [
            Measure::higher(ACCURACY, "accuracy", Format::Percent),
            Measure::lower(ERRORS, "errors of {}", Format::Count),
            Measure::lower("perplexity", "perplexity", Format::Number),
            KL,
            ENTROPY,
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &[ACCURACY]
    }

    fn right_rows(&self) -> Option<&'static str> {
        Some(ACCURACY)
    }

    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let Some(loss) = of.loss else { return Ok(Scores::default()) };
        let tokens = of.feed.masked_tokens();
        let accuracy = loss.scores.get(ACCURACY).unwrap_or(0.0);
        let errors = tokens - (accuracy * tokens as f64).round() as usize;
        Ok(language::scores(loss).with(ACCURACY, accuracy).with(ERRORS, errors as f64))
    }

    /// The share of masked tokens that are the one that is masked most often.
    fn majority(&self, _: &Dataset, feed: &BatchEncoder<'_>) -> Option<f64> {
        let (most, all) = (feed.most_frequent_masked(), feed.masked_tokens());
        (all > 0).then(|| most as f64 / all as f64)
    }

    fn measured(&self, examples: &Examples) -> String {
        counted_thousands(examples.masked.unwrap_or(0), "masked token")
    }
}
