//! The answer to a question is a part of its context (Rajpurkar et al. 2016, 2018).

use super::asked::{Asked, TeacherKind, refusal, texts_alone};
use super::contract::{BatchRows, Counted, LossInputs, Measured, Task, TeacherOutputs};
use super::rows;
use crate::data::{Dataset, Examples, LabelKind};
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{Answer, Head, HostBatch, ModelConfig, Output};
use crate::results::{Format, Measure, Scores};
use crate::scores::spans::predict;
use crate::scores::{AnswerScores, SpanChoice, largest};

/// To find the answer to a question in a text.
#[derive(Debug)]
pub(super) struct QuestionAnswering;

/// Key of the mean F1 of the words of answers.
const F1: &str = "f1";
/// Key of the share of answers that are right word for word.
const EXACT: &str = "exact_match";

/// The logits [2 · rows, length] of a model's starts and ends.
fn span(outputs: &crate::models::Outputs) -> Result<TensorId, Error> {
    match outputs.answer {
        Answer::Span(logits) => Ok(logits),
        _ => Err(Error::Unsupported {
            what: "this model marks no answers in texts, and its student learns to".to_owned(),
            instead: "give the `folder` of a model for question answering, or a `model` to train"
                .to_owned(),
        }),
    }
}

impl Task for QuestionAnswering {
    fn name(&self) -> &'static str {
        "question-answering"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::Spans
    }

    fn refuses(&self, asked: &Asked) -> Option<[String; 2]> {
        texts_alone(asked).or_else(|| match asked.teacher {
            TeacherKind::Answers => refusal(
                "the teacher of answers to questions cannot be a file of logits, as each model has tokens of its own",
                "give the `folder` of a model, or a `model` to train",
            ),
            _ => None,
        })
    }

    fn head(&self, _: usize) -> Head {
        Head::Span
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Span)
    }

    fn training_data(&self, data: &Dataset, student: &ModelConfig) -> Result<Dataset, Error> {
        let Examples::Questions(questions) = data.examples() else { return Ok(data.clone()) };
        let answers = data.labels().and_then(|labels| labels.spans());
        let windows = student.input.windows(questions, answers)?;
        Ok(Dataset::unlabelled(windows))
    }

    /// Half the sum of the losses of starts and of ends: each is a row of the loss, and their mean is taken over both.
    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        let logits = span(of.outputs)?;
        let teacher = match of.teacher {
            TeacherOutputs::Made(outputs) => Some(span(outputs)?),
            _ => None,
        };
        let shape = [2 * of.shape.rows, of.shape.length];
        rows::softmax_loss(graph, of, logits, teacher, shape).map(Some)
    }

    fn answers_once(&self) -> bool {
        false
    }

    fn fill_labels(&self, of: &BatchRows<'_>, batch: &mut HostBatch) {
        let places = of.indices.iter().flat_map(|&row| {
            let span = of.feed.span(row as usize);
            [span.map(|span| span.start as i32), span.map(|span| span.end as i32)]
        });
        rows::fill(batch, of.feed.labels(of.shape), places);
    }

    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        let labelled = of.indices.iter().filter(|&&row| of.feed.span(row as usize).is_some());
        Counted { rows: 2 * of.indices.len(), labelled: 2 * labelled.count() }
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 4] = [
            Measure::higher(F1, "F1", Format::Percent),
            Measure::higher(EXACT, "exact match of {}", Format::Percent),
            Measure::higher("answerable_f1", "F1, questions with an answer", Format::Percent),
            Measure::higher("unanswerable_f1", "F1, questions without an answer", Format::Percent),
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &[F1, EXACT]
    }

    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let (Some(truth), Examples::Questions(questions), Some(windows)) = (
            of.data.labels().and_then(|labels| labels.spans()),
            of.data.examples(),
            of.feed.windows(),
        ) else {
            return Ok(Scores::default());
        };
        let ends = of.feed.offsets(1);
        let threshold = truth.some_unanswerable().then_some(0.0);
        let how = SpanChoice { null_threshold: threshold, ..SpanChoice::default() };
        let mut scores = AnswerScores::default();
        let logits = |window: usize| {
            let both = &of.answers[ends[window]..ends[window + 1]];
            let (start, end) = both.split_at(both.len() / 2);
            [start.to_vec(), end.to_vec()]
        };
        for (question, text, _) in predict(questions, windows, logits, how) {
            let answers = truth.row(question as usize).answers.iter();
            scores.add(text, &answers.map(|answer| &*answer.text).collect::<Vec<_>>());
        }
        let both = scores.answerable().zip(scores.unanswerable());
        Ok(Scores::default()
            .with(F1, scores.f1())
            .with(EXACT, scores.exact())
            .with("answerable_f1", both.map(|((_, f1, _), _)| f1))
            .with("unanswerable_f1", both.map(|(_, (_, f1, _))| f1)))
    }

    /// The share of windows whose likeliest start and end are both the teacher's.
    fn agreement(&self, of: &Measured<'_>) -> Option<f64> {
        let (theirs, _) = of.teacher?;
        if theirs.len() != of.answers.len() {
            return None;
        }
        let ends = of.feed.offsets(1);
        let same = ends.windows(2).filter(|range| {
            let [ours, theirs] = [of.answers, theirs].map(|all| {
                let both = &all[range[0]..range[1]];
                let (start, end) = both.split_at(both.len() / 2);
                [largest(start), largest(end)]
            });
            ours == theirs
        });
        Some(same.count() as f64 / of.feed.len() as f64)
    }
}
