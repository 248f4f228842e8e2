//! Each next token of a text is guessed (Radford et al. 2018).

use std::cmp::Ordering;

use super::asked::{Asked, TeacherKind, refusal, texts_alone};
use super::contract::{BatchRows, Counted, LossInputs, Measured, Measuring, Task};
use super::language::{self, ENTROPY, KL};
use crate::data::{Dataset, Examples as Data, LabelKind};
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{Head, HostBatch, Input, ModelConfig, Output};
use crate::results::{
    ACCURACY, ArmReport, Arms, Examples, Format, Measure, Metrics, Report, Scores,
};
use crate::words::counted_thousands;

/// To guess each next token of a text, a prompt's completion or an assistant's part of a chat; needs no labels.
#[derive(Debug)]
pub(super) struct CausalLm;

/// Key of the mean negative log-likelihood of a token, in nats.
const NATS: &str = "cross_entropy";
/// Key of the same in bits, for each byte of text, which models of different vocabularies can be compared by.
const BITS_PER_BYTE: &str = "bits_per_byte";

/// The two of texts that a student has written itself, where it learns from such.
const OWN_KL: Measure = Measure::lower("own_kl", "KL to it on own texts", Format::Ratio);
const OWN_AGREEMENT: Measure =
    Measure::higher("own_agreement", "same token on own texts", Format::Percent);

/// Scores with what was measured of a student in its own texts.
pub(crate) fn with_own_texts(scores: Scores, own: &Metrics) -> Scores {
    scores.with(OWN_KL.key, own.soft).with(OWN_AGREEMENT.key, own.agreement)
}

fn unfit() -> Error {
    Error::Unsupported {
        what: "this model guesses no next tokens, and its student learns to".to_owned(),
        instead: "give the `folder` of a Llama, Mistral, Qwen, Gemma 3 or GPT-2, or a `model` of type \"decoder\" to train"
            .to_owned(),
    }
}

impl Task for CausalLm {
    fn name(&self) -> &'static str {
        "causal-lm"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::Documents
    }

    fn refuses(&self, asked: &Asked) -> Option<[String; 2]> {
        texts_alone(asked).or_else(|| match asked.teacher {
            TeacherKind::Answers => refusal(
                "the teacher of a language model cannot be a file of logits, as its answers are too many to keep",
                "give the `folder` of a model, or a `model` to train",
            ),
            _ => None,
        })
    }

    fn check_models(&self, teacher: &ModelConfig, student: &ModelConfig) -> Result<(), Error> {
        let bad = |problem: &str| Error::Model {
            path: "student.model".to_owned(),
            problem: problem.to_owned(),
        };
        let (Input::Tokens(theirs), Input::Tokens(ours)) = (&teacher.input, &student.input) else {
            return Err(unfit());
        };
        if theirs.tokenizer != ours.tokenizer || theirs.vocab_size != ours.vocab_size {
            return Err(bad(
                "teacher and student guess the same tokens, and need the same tokenizer and vocabulary: give both the same \
                 `vocabulary`, and the student a `from` with the teacher's tokenizer",
            ));
        }
        if theirs.max_length != ours.max_length {
            return Err(bad(
                "teacher and student read the same rows: they need the same `max_length`",
            ));
        }
        Ok(())
    }

    /// What the teacher reads at once is what its student does.
    fn fit_teacher(&self, teacher: &mut ModelConfig, student: &ModelConfig) {
        if let (Input::Tokens(theirs), Input::Tokens(ours)) = (&mut teacher.input, &student.input) {
            theirs.max_length = theirs.max_length.min(ours.max_length);
        }
    }

    /// Rows of tokens.
    fn training_data(&self, data: &Dataset, student: &ModelConfig) -> Result<Dataset, Error> {
        let (Data::Documents(corpus), Input::Tokens(tokens)) = (data.examples(), &student.input)
        else {
            return Ok(data.clone());
        };
        Ok(Dataset::unlabelled(corpus.packed(tokens.tokenizer()?, tokens.max_length)?))
    }

    fn head(&self, _: usize) -> Head {
        Head::MaskedLanguage
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Vocabulary(_)) && !model.input.masks()
    }

    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        language::loss(graph, of, unfit)
    }

    fn answers_once(&self) -> bool {
        false
    }

    fn goes_on(&self) -> bool {
        true
    }

    /// They are written with the tokens.
    fn fill_labels(&self, _: &BatchRows<'_>, _: &mut HostBatch) {}

    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        let rows = of.indices.iter().map(|&row| of.feed.next_tokens(row as usize)).sum();
        Counted { rows, labelled: rows }
    }

    fn measuring(&self) -> Measuring {
        Measuring::Loss
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 8] = [
            Measure::lower(NATS, "nats per token", Format::Ratio),
            Measure::lower(BITS_PER_BYTE, "bits per byte", Format::Ratio),
            Measure::lower("perplexity", "perplexity", Format::Number),
            Measure::higher(ACCURACY, "next token right", Format::Percent),
            KL,
            ENTROPY,
            OWN_KL,
            OWN_AGREEMENT,
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &[NATS, ACCURACY]
    }

    fn keeps_score(&self) -> bool {
        false
    }

    /// The loss is drawn by itself.
    fn curve(&self) -> Measure {
        self.measures()[3]
    }

    fn verdict(&self, report: &Report) -> String {
        let Arms { control, distilled, .. } = &report.arms;
        let nats = |arm: &ArmReport| arm.scores.get(NATS);
        let (Some(alone), Some(own)) = (nats(control), nats(distilled)) else {
            return "could not be measured".to_owned();
        };
        let than = match own.total_cmp(&alone) {
            Ordering::Less => {
                format!("{:.3} fewer than the same student alone needs", alone - own)
            }
            Ordering::Equal => {
                "as the same student alone does: distillation gained nothing here".to_owned()
            }
            Ordering::Greater => {
                format!("where the same student alone needs {alone:.3}: distillation hurt here")
            }
        };
        format!("needs {own:.3} nats to guess a token, {than}")
    }

    fn right_rows(&self) -> Option<&'static str> {
        Some(ACCURACY)
    }

    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let Some(loss) = of.loss else { return Ok(Scores::default()) };
        let (tokens, bytes) = of.feed.next_tokens_and_bytes();
        let bits = |nats: f64| nats * tokens as f64 / (std::f64::consts::LN_2 * bytes as f64);
        Ok(language::scores(loss)
            .with(BITS_PER_BYTE, loss.hard.filter(|_| bytes > 0).map(bits))
            .with(ACCURACY, loss.scores.get(ACCURACY)))
    }

    fn measured(&self, examples: &Examples) -> String {
        counted_thousands(examples.masked.unwrap_or(0), "token")
    }
}
