//! Losses of rows of logits by softmax, which several tasks have.

use distil_gpu_kernels::DType;
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING};

use super::contract::{LossInputs, TeacherOutputs};
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::{HostBatch, LABELS};
use crate::objective::plans::{ROW_WEIGHTS, TEACHER_LOGITS};

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
    let (row_loss, terms) = graph.weighted_distill_loss(logits, labels, teacher, weights, width)?;
    Ok([row_loss, terms])
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

/// The place of the largest of some numbers; of equals, the first.
pub(super) fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Share of rows of `width` numbers whose largest is in the same place.
pub(super) fn same_largest(ours: &[f32], theirs: &[f32], width: usize) -> f64 {
    let rows = ours.chunks_exact(width).zip(theirs.chunks_exact(width));
    let same = rows.filter(|(a, b)| largest(a) == largest(b)).count();
    same as f64 * width as f64 / ours.len() as f64
}
