//! Each example has one of the classes (Hinton, Vinyals and Dean 2015).

use super::asked::{Asked, TeacherKind, refusal};
use super::contract::{BatchRows, Counted, LossInputs, Measured, Task, TeacherOutputs};
use super::rows;
use crate::data::{Dataset, LabelKind};
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{BatchEncoder, Head, HostBatch, ModelConfig, Output, ProblemType};
use crate::results::{ACCURACY, ERRORS, Format, Measure, Scores};
use crate::scores::{ClassScores, errors_per_class};

/// To tell an example's class.
#[derive(Debug)]
pub(super) struct Classification;

/// Key of the mean F1 of the classes.
const MACRO_F1: &str = "macro_f1";
/// Key of the Matthews correlation.
const MATTHEWS: &str = "matthews";

impl Task for Classification {
    fn name(&self) -> &'static str {
        "classification"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::ClassIfAny
    }

    /// Without labels a teacher can be distilled, but not trained.
    fn refuses(&self, asked: &Asked) -> Option<[String; 2]> {
        match asked {
            Asked { labelled: true, .. } => None,
            Asked { teacher: TeacherKind::Folder, keeps_best: false, .. } => None,
            Asked { teacher: TeacherKind::Folder, .. } => refusal(
                "the data have no labels by which `train.keep = \"best\"` could choose",
                "leave `keep` out, and the last parameters are kept",
            ),
            _ => refusal(
                "the training data have no labels, and only a finished model can be learnt from without",
                "give files with a column of labels, or the `folder` of a teacher",
            ),
        }
    }

    fn head(&self, outputs: usize) -> Head {
        Head::Classes(outputs)
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Classes(_)) && model.problem == ProblemType::SingleLabel
    }

    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        let logits = of.outputs.logits()?;
        let teacher = match of.teacher {
            TeacherOutputs::Made(outputs) => Some(outputs.logits()?),
            _ => None,
        };
        let shape = [of.shape.rows, of.student.classes()];
        rows::softmax_loss(graph, of, logits, teacher, shape).map(Some)
    }

    fn fill_labels(&self, of: &BatchRows<'_>, batch: &mut HostBatch) {
        let label = |&row: &u32| of.data.label(row).map(|label| label as i32);
        rows::fill(batch, of.shape.rows, of.indices.iter().map(label));
    }

    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        let labelled = of.indices.iter().filter(|&&row| of.data.label(row).is_some()).count();
        Counted { rows: of.indices.len(), labelled }
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 4] = [
            Measure::higher(ACCURACY, "accuracy", Format::Percent),
            Measure::lower(ERRORS, "errors of {}", Format::Count),
            Measure::higher(MACRO_F1, "macro F1", Format::Ratio),
            Measure::higher(MATTHEWS, "Matthews correlation", Format::Ratio),
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &[ACCURACY, MACRO_F1, MATTHEWS]
    }

    fn right_rows(&self) -> Option<&'static str> {
        Some(ACCURACY)
    }

    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let Some(labels) = of.data.class_labels() else { return Ok(Scores::default()) };
        let scores = ClassScores::of(of.answers, labels.ids(), labels.classes());
        let (examples, errors) = (labels.ids().len(), scores.errors());
        Ok(Scores::default()
            .with(ACCURACY, (examples - errors) as f64 / examples as f64)
            .with(ERRORS, errors as f64)
            .with(MACRO_F1, scores.macro_f1())
            .with(MATTHEWS, scores.matthews()))
    }

    /// By the softmax.
    fn scores_of_answer(&self, answer: &mut [f32]) {
        let most = answer.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        answer.iter_mut().for_each(|z| *z = (*z - most).exp());
        let sum: f32 = answer.iter().sum();
        answer.iter_mut().for_each(|p| *p /= sum);
    }

    fn errors_per_class(&self, of: &Measured<'_>) -> Vec<usize> {
        let labels = of.data.class_labels();
        labels.map_or(Vec::new(), |labels| {
            errors_per_class(of.answers, labels.ids(), labels.classes(), None)
        })
    }

    fn agreement(&self, of: &Measured<'_>) -> Option<f64> {
        let (theirs, width) = of.teacher?;
        Some(rows::same_largest(of.answers, theirs, width))
    }

    fn majority(&self, data: &Dataset, _: &BatchEncoder<'_>) -> Option<f64> {
        let labels = data.class_labels()?;
        let most = labels.per_class_counts().into_iter().max()?;
        Some(most as f64 / labels.ids().len() as f64)
    }
}
