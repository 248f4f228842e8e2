//! Each example has one number or several, as how alike two sentences are (Cer et al. 2017, STS-B).

use distil_gpu_kernels::pointwise_loss::PointwiseKind;

use super::asked::Asked;
use super::contract::{BatchRows, Counted, LossInputs, Measured, Task};
use super::rows;
use crate::data::LabelKind;
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{Head, HostBatch, ModelConfig, Output, ProblemType};
use crate::results::{Format, Measure, Scores};
use crate::scores::Fit;

/// To tell numbers. The teacher's are learnt as the labels are, by the mean square of differences; there is no temperature.
#[derive(Debug)]
pub(super) struct Regression;

impl Task for Regression {
    fn name(&self) -> &'static str {
        "regression"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::Numbers
    }

    fn refuses(&self, _: &Asked) -> Option<[String; 2]> {
        None
    }

    fn head(&self, outputs: usize) -> Head {
        Head::Classes(outputs)
    }

    fn problem(&self) -> ProblemType {
        ProblemType::Regression
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Classes(_)) && model.problem == ProblemType::Regression
    }

    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        rows::pointwise_loss(graph, of, PointwiseKind::Square).map(Some)
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
        const ALL: [Measure; 5] = [
            Measure::higher("pearson", "Pearson correlation", Format::Ratio),
            Measure::higher("spearman", "Spearman correlation", Format::Ratio),
            Measure::lower("rmse", "root mean square error", Format::Ratio),
            Measure::lower("mae", "mean absolute error", Format::Ratio),
            Measure::higher("r2", "R²", Format::Ratio),
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &["pearson", "spearman", "r2"]
    }

    fn loss_name(&self) -> &'static str {
        "mean square error"
    }

    /// Of several numbers, the means over them.
    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let Some(labels) = of.data.labels().and_then(|labels| labels.numbers()) else {
            return Ok(Scores::default());
        };
        let fits = Fit::of_each(of.answers, labels.values(), labels.width());
        let Some(fit) = Fit::mean(&fits) else { return Ok(Scores::default()) };
        Ok(Scores::default()
            .with("pearson", fit.pearson)
            .with("spearman", fit.spearman)
            .with("rmse", fit.rmse)
            .with("mae", fit.mae)
            .with("r2", fit.r2))
    }
}
