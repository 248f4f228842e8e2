//! Each word of a text has one of the classes: entities, parts of speech (Tjong Kim Sang and De Meulder 2003).

use super::asked::{Asked, TeacherKind, refusal, texts_alone};
use super::contract::{BatchRows, Counted, LossInputs, Measured, Task, TeacherOutputs};
use super::rows;
use crate::data::LabelKind;
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{Head, HostBatch, ModelConfig, Output};
use crate::results::{ACCURACY, Examples, Format, Measure, Scores};
use crate::scores::{EntityCounts, are_entities, largest};
use crate::words::counted_thousands;

/// To tell the class of each word.
#[derive(Debug)]
pub(super) struct TokenClassification;

/// Key of the F1 of entities; of tags that name no entities, of the words' classes.
const F1: &str = "f1";

impl Task for TokenClassification {
    fn name(&self) -> &'static str {
        "token-classification"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::Tags
    }

    fn refuses(&self, asked: &Asked) -> Option<[String; 2]> {
        texts_alone(asked).or_else(|| match asked.teacher {
            TeacherKind::Answers => refusal(
                "the teacher of words' classes cannot be a file of logits, as each model has words of its own",
                "give the `folder` of a model, or a `model` to train",
            ),
            _ => None,
        })
    }

    fn head(&self, outputs: usize) -> Head {
        Head::Tokens(outputs)
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Tokens(_))
    }

    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        let logits = of.outputs.logits()?;
        let teacher = match of.teacher {
            TeacherOutputs::Made(outputs) => Some(outputs.logits()?),
            _ => None,
        };
        let shape = [of.student.input.labels(of.shape), of.student.classes()];
        rows::softmax_loss(graph, of, logits, teacher, shape).map(Some)
    }

    fn answers_once(&self) -> bool {
        false
    }

    fn fill_labels(&self, of: &BatchRows<'_>, batch: &mut HostBatch) {
        let tags = of.data.labels().and_then(|labels| labels.tags());
        let words = of.indices.iter().flat_map(|&row| {
            let row = row as usize;
            of.feed.words(row).map(move |word| {
                tags.filter(|tags| row < tags.len()).map(|tags| tags.row(row)[word] as i32)
            })
        });
        rows::fill(batch, of.feed.labels(of.shape), words);
    }

    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        let labelled = of.data.labelled_len() as u32;
        let words = |row: u32| of.feed.words(row as usize).count();
        let all = of.indices.iter().map(|&row| (row < labelled, words(row)));
        all.fold(Counted { rows: 0, labelled: 0 }, |sum, (labelled, words)| Counted {
            rows: sum.rows + words,
            labelled: sum.labelled + if labelled { words } else { 0 },
        })
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 4] = [
            Measure::higher(F1, "F1", Format::Percent),
            Measure::higher("precision", "precision", Format::Percent),
            Measure::higher("recall", "recall", Format::Percent),
            Measure::higher(ACCURACY, "accuracy of {}", Format::Percent),
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &[F1, ACCURACY]
    }

    fn right_rows(&self) -> Option<&'static str> {
        Some(ACCURACY)
    }

    /// Words that a model's maximum length cuts off count as outside of entities, the first class where tags name none.
    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let Some(tags) = of.data.labels().and_then(|labels| labels.tags()) else {
            return Ok(Scores::default());
        };
        let classes = of.config.classes();
        let outside = tags.names().iter().position(|name| name == "O").unwrap_or(0) as u32;
        let mut counts = EntityCounts::new(tags.names());
        let mut answers = of.answers.chunks_exact(classes);
        for row in 0..tags.len() {
            let truth = tags.row(row);
            let mut predicted = vec![outside; truth.len()];
            for word in of.feed.words(row) {
                let answer = answers.next().unwrap_or_default();
                predicted[word] = largest(answer) as u32;
            }
            counts.add(&predicted, truth);
        }
        let scores = Scores::default().with(ACCURACY, counts.accuracy());
        if !are_entities(tags.names()) {
            return Ok(scores.with(F1, counts.macro_f1()));
        }
        let total = counts.total();
        Ok(scores
            .with(F1, total.f1())
            .with("precision", total.precision())
            .with("recall", total.recall()))
    }

    fn agreement(&self, of: &Measured<'_>) -> Option<f64> {
        let (theirs, width) = of.teacher?;
        (theirs.len() == of.answers.len()).then(|| rows::same_largest(of.answers, theirs, width))
    }

    fn measured(&self, examples: &Examples) -> String {
        counted_thousands(examples.test, "text")
    }
}
