//! Each example has any number of the labels: none, one or several.

use distil_gpu_kernels::pointwise_loss::PointwiseKind;

use super::asked::Asked;
use super::contract::{BatchRows, Counted, LossInputs, Measured, Task};
use super::rows;
use crate::data::LabelKind;
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{Head, HostBatch, ModelConfig, Output, ProblemType};
use crate::results::{Format, Measure, Scores};
use crate::scores::SeveralLabels;

/// To tell of each label by itself whether an example has it. The soft term is the divergence of two outcomes, yes and
/// no, for each label.
#[derive(Debug)]
pub(super) struct MultiLabel;

impl Task for MultiLabel {
    fn name(&self) -> &'static str {
        "multi-label"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::MultiLabel
    }

    fn refuses(&self, _: &Asked) -> Option<[String; 2]> {
        None
    }

    fn head(&self, outputs: usize) -> Head {
        Head::Classes(outputs)
    }

    fn problem(&self) -> ProblemType {
        ProblemType::MultiLabel
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Classes(_)) && model.problem == ProblemType::MultiLabel
    }

    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        let kind = PointwiseKind::Logistic(of.objective.divergence);
        rows::pointwise_loss(graph, of, kind).map(Some)
    }

    fn has_targets(&self) -> bool {
        true
    }

    fn fill_labels(&self, of: &BatchRows<'_>, batch: &mut HostBatch) {
        rows::fill_targets(of, batch);
    }

    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        rows::count_examples(of)
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 4] = [
            Measure::higher("micro_f1", "micro F1", Format::Percent),
            Measure::higher("macro_f1", "macro F1", Format::Percent),
            Measure::higher("mean_average_precision", "mean average precision", Format::Percent),
            Measure::higher("subset_accuracy", "all labels right, of {}", Format::Percent),
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &["micro_f1", "macro_f1", "mean_average_precision", "subset_accuracy"]
    }

    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let Some(labels) = of.data.labels().and_then(|labels| labels.numbers()) else {
            return Ok(Scores::default());
        };
        let several = SeveralLabels::of(of.answers, labels.values(), labels.width());
        Ok(Scores::default()
            .with("micro_f1", several.micro_f1())
            .with("macro_f1", several.macro_f1())
            .with("mean_average_precision", several.mean_average_precision())
            .with("subset_accuracy", several.subset_accuracy()))
    }

    /// By the sigmoid.
    fn scores_of_answer(&self, answer: &mut [f32]) {
        answer.iter_mut().for_each(|z| *z = 1.0 / (1.0 + (-*z).exp()));
    }

    /// The share of labels of which both say the same.
    fn agreement(&self, of: &Measured<'_>) -> Option<f64> {
        let (theirs, _) = of.teacher?;
        let same = of.answers.iter().zip(theirs).filter(|(a, b)| (**a > 0.0) == (**b > 0.0));
        Some(same.count() as f64 / of.answers.len() as f64)
    }
}
