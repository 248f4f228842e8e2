//! Losses of rows of logits, which several tasks have.

use distil_gpu_kernels::DType;
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING};
use distil_gpu_kernels::pointwise_loss::PointwiseKind;

use super::contract::{BatchRows, Counted, LossInputs, TeacherOutputs};
use crate::error::Error;
use crate::graph::ops::LossTerms;
use crate::graph::{Graph, TensorId};
use crate::models::{HostBatch, LABELS};
use crate::objective::names::{ROW_WEIGHTS, TARGETS, TEACHER_LOGITS};
use crate::scores::largest;

/// The distillation loss of logits [rows, width], whose labels [rows] are an input, and so are a given teacher's logits.
/// A teacher in the plan makes its own out of what it outputs by `logits_of`.
pub(super) fn softmax_loss(
    graph: &mut Graph,
    of: &LossInputs<'_>,
    logits: TensorId,
    teacher: Option<TensorId>,
    [rows, width]: [usize; 2],
) -> Result<[TensorId; 2], Error> {
    let labels = graph.input(LABELS, &[rows], DType::I32);
    let teacher = match of.teacher {
        TeacherOutputs::Made(_) => teacher,
        TeacherOutputs::Given => Some(graph.input(TEACHER_LOGITS, &[rows, width], DType::F32)),
        TeacherOutputs::None => None,
    };
    let weights = of.weighted.then(|| graph.input(ROW_WEIGHTS, &[rows], DType::F32));
    let terms = LossTerms { weights, ..of.terms() };
    let (row_loss, terms) = graph.distill_loss_of(logits, labels, teacher, width, terms)?;
    Ok([row_loss, terms])
}

/// The loss of outputs [rows, outputs] that each have a label of their own, which is an input, and so are a given teacher's.
pub(super) fn pointwise_loss(
    graph: &mut Graph,
    of: &LossInputs<'_>,
    kind: PointwiseKind,
) -> Result<[TensorId; 2], Error> {
    let shape = [of.shape.rows, of.student.classes()];
    let outputs = of.outputs.logits()?;
    let teacher = match of.teacher {
        TeacherOutputs::Made(outputs) => Some(outputs.logits()?),
        TeacherOutputs::Given => Some(graph.input(TEACHER_LOGITS, &shape, DType::F32)),
        TeacherOutputs::None => None,
    };
    let targets = graph.input(TARGETS, &shape, DType::F32);
    let kinds = graph.input(LABELS, &shape[..1], DType::I32);
    let (row_loss, terms) = graph.pointwise_loss(outputs, targets, kinds, teacher, kind)?;
    Ok([row_loss, terms])
}

/// Writes the numbers that are a batch's labels, and which examples have some.
pub(super) fn fill_targets(of: &BatchRows<'_>, batch: &mut HostBatch) {
    let Some(labels) = of.data.labels().and_then(|labels| labels.numbers()) else { return };
    let (width, known) = (labels.width(), labels.len());
    let targets = batch.floats(TARGETS, of.shape.rows * width);
    targets.fill(0.0);
    for (out, &row) in targets.chunks_exact_mut(width).zip(of.indices) {
        if (row as usize) < known {
            out.copy_from_slice(labels.row(row as usize));
        }
    }
    let kinds = of.indices.iter().map(|&row| ((row as usize) < known).then_some(0));
    fill(batch, of.shape.rows, kinds);
}

/// How many examples there are, and how many have labels.
pub(super) fn count_examples(of: &BatchRows<'_>) -> Counted {
    let known = of.data.labelled_len() as u32;
    let labelled = of.indices.iter().filter(|&&row| row < known).count();
    Counted { rows: of.indices.len(), labelled }
}

/// Writes the labels of `rows` rows of a loss: those without one are ignored, and rows behind them are padding.
pub(super) fn fill(
    batch: &mut HostBatch,
    rows: usize,
    labels: impl IntoIterator<Item = Option<i32>>,
) {
    let out = batch.integers(LABELS, rows);
    out.fill(PADDING);
    for (out, label) in out.iter_mut().zip(labels) {
        *out = label.unwrap_or(IGNORED);
    }
}

/// Share of rows of `width` numbers whose largest is in the same place.
pub(super) fn same_largest(ours: &[f32], theirs: &[f32], width: usize) -> f64 {
    let rows = ours.chunks_exact(width).zip(theirs.chunks_exact(width));
    let same = rows.filter(|(a, b)| largest(a) == largest(b)).count();
    same as f64 * width as f64 / ours.len() as f64
}
