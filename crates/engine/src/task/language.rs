//! What tasks that guess tokens of a vocabulary have in common, masked ones or next ones.

use distil_gpu_kernels::DType;

use super::contract::{LossInputs, TeacherOutputs};
use crate::error::Error;
use crate::graph::ops::chunk_rows;
use crate::graph::{Graph, TensorId};
use crate::models::{Answer, LABELS};
use crate::results::{Format, Measure, Metrics, Scores};

/// How far a model's guesses are from the teacher's: KL(teacher ‖ model) at a temperature of 1, in nats a token.
pub(super) const KL: Measure = Measure::lower("kl", "KL to the teacher", Format::Ratio);
/// How unsure a model is: the mean entropy of its guesses, in nats a token.
pub(super) const ENTROPY: Measure =
    Measure::lower("entropy", "entropy of its guesses", Format::Ratio);

/// The loss in the chunked head; `unfit` where a model guesses no tokens.
pub(super) fn loss(
    graph: &mut Graph,
    of: &LossInputs<'_>,
    unfit: impl Fn() -> Error,
) -> Result<Option<[TensorId; 2]>, Error> {
    let Answer::Vocabulary(ours) = of.outputs.answer else { return Err(unfit()) };
    let count = of.student.input.labels(of.shape);
    let labels = graph.input(LABELS, &[count], DType::I32);
    let theirs = match of.teacher {
        TeacherOutputs::None => None,
        TeacherOutputs::Given => return Err(unfit()),
        TeacherOutputs::Made(outputs) => match outputs.answer {
            Answer::Vocabulary(theirs) => Some(theirs),
            _ => return Err(unfit()),
        },
    };
    let chunk = chunk_rows(count, of.student.answers());
    let (row_loss, terms) = graph.vocabulary_loss_of(ours, labels, theirs, chunk, of.terms())?;
    Ok(Some([row_loss, terms]))
}

/// What both measure of a loss.
pub(super) fn scores(loss: &Metrics) -> Scores {
    Scores::default()
        .with("cross_entropy", loss.hard)
        .with("perplexity", loss.hard.map(f64::exp))
        .with(KL.key, loss.soft)
        .with(ENTROPY.key, loss.entropy)
}
