//! The distillation loss: per-row loss, reported terms, and the gradient in the logits' own memory.

use std::sync::Arc;

use distil_gpu_kernels::{DType, Divergence, distill_loss};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// What a distillation loss is made of beside logits and labels; forward KL and rows of equal weight are the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossTerms {
    /// The soft term, if there is a teacher.
    pub divergence: Divergence,
    /// Weights \[rows] that the hard terms of the rows are multiplied by. The step's scale of the hard term is then 1 / their
    /// sum.
    pub weights: Option<TensorId>,
    /// Whether the soft term is of logits less their row's mean, over its standard deviation.
    pub standardise: bool,
    /// Share of the hard term that is spread over all classes, from 0 to 1.
    pub smoothing: f32,
}

impl LossTerms {
    /// Refuses what is out of range, and what so many classes have not.
    pub(super) fn check(self, classes: usize) -> Result<(), Error> {
        let (what, instead) = if !self.divergence.is_valid() {
            (
                format!("a number of {:?} is out of range", self.divergence),
                "give a beta from 0.001 to 0.999, a skew from 0.001 to 0.9, weights from 0 to 10,000",
            )
        } else if !(0.0..=1.0).contains(&self.smoothing) {
            (
                format!("a share of {} of the labels is spread over all classes", self.smoothing),
                "give a share from 0 to 1",
            )
        } else if !self.divergence.is_of_outcomes() && classes < 3 {
            (
                format!(
                    "decoupled KL compares the classes other than the label, and of {classes} there are none to compare"
                ),
                "give it three classes or more, or take forward KL",
            )
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { what, instead: instead.to_owned() })
    }

    /// Refuses what losses without a softmax have not.
    pub(super) fn check_pointwise(self) -> Result<(), Error> {
        if self.divergence.is_of_outcomes() {
            return self.check(2);
        }
        Err(Error::Unsupported {
            what: "decoupled KL is for classes of which one is right".to_owned(),
            instead: "take forward KL where outputs have labels of their own".to_owned(),
        })
    }
}

/// Inputs: student logits [rows, columns], labels \[rows] (integers), and teacher logits [rows, columns],
/// unless it is cross-entropy alone; then the weights \[rows] of the rows' hard terms, if `weighted`. Outputs: row losses
/// \[rows], whose sum is the batch's loss; terms [rows, [`distill_loss::TERMS`]]; the gradient of the summed loss by the
/// student's logits.
#[derive(Clone, Copy, Debug)]
pub struct DistillLoss {
    /// Classes; further columns of either tensor are padding.
    pub classes: usize,
    /// Whether the hard terms of the rows have weights.
    pub weighted: bool,
    /// The soft term.
    pub divergence: Divergence,
    /// Whether its logits are standardised.
    pub standardise: bool,
    /// Share of the hard term that is spread over all classes.
    pub smoothing: f32,
}

impl DistillLoss {
    /// Number of the input that holds the teacher's logits, and of the one that holds weights, of so many inputs.
    fn optional(&self, inputs: usize) -> (Option<usize>, Option<usize>) {
        let weights = self.weighted.then(|| inputs - 1);
        let teacher = (inputs - usize::from(self.weighted) > 2).then_some(2);
        (teacher, weights)
    }
}

const TERMS: usize = 1;
const GRADIENT: usize = 2;

impl Op for DistillLoss {
    fn name(&self) -> &'static str {
        "distill_loss"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let rows = inputs[1].len();
        let is_logits = |t: &Tensor| {
            let [r, columns] = t.shape[..] else { return false };
            t.dtype == DType::F32 && r == rows && columns >= self.classes
        };
        let labels = inputs[1].dtype == DType::I32 && inputs[1].shape.len() == 1;
        let (teacher, weights) = self.optional(inputs.len());
        let logits = is_logits(inputs[0]) && teacher.is_none_or(|i| is_logits(inputs[i]));
        let is_weights = |t: &Tensor| t.dtype == DType::F32 && t.shape == [rows];
        let labels = labels && weights.is_none_or(|i| is_weights(inputs[i]));
        if !labels || !logits || self.classes == 0 || rows == 0 {
            let needed = format!(
                "logits [rows, at least {}], labels [rows], teacher logits and weights [rows]",
                self.classes
            );
            return Err(mismatch(self.name(), inputs, &needed));
        }
        Ok(vec![vec![rows], vec![rows, distill_loss::TERMS], inputs[0].shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if at.has_upstream(TERMS) || at.has_upstream(GRADIENT) {
            return Err(at.missing(self.name()));
        }
        let mut gradients = vec![None; at.node.inputs.len()];
        let dlogits = at.output(GRADIENT);
        gradients[0] = Some(if at.upstream_is_one(0) {
            dlogits
        } else {
            let (upstream, rows) = (at.upstream(0), at.graph.tensor(at.input(1)).len());
            let column = at.graph.reshape(upstream, &[rows, 1])?;
            at.graph.mul(dlogits, column)?
        });
        Ok(gradients)
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let gradient = site.wanted[GRADIENT];
        let (teacher, weights) = self.optional(site.inputs.len());
        let kernel = distill_loss::DistillLoss {
            rows: site.inputs[1].len(),
            classes: self.classes,
            student_stride: site.inputs[0].shape[1],
            teacher_stride: teacher.map(|i| site.inputs[i].shape[1]),
            gradient,
            weighted: self.weighted,
            divergence: self.divergence,
            standardise: self.standardise,
            smoothing: self.smoothing,
        };
        let student = if gradient { ArgRef::Output(GRADIENT) } else { ArgRef::Input(0) };
        let mut args = vec![student];
        args.extend(teacher.map(ArgRef::Input));
        args.extend([ArgRef::Input(1), ArgRef::Output(0), ArgRef::Output(1)]);
        args.extend(weights.map(ArgRef::Input));
        Ok(vec![Lowered::new(kernel, args)])
    }

    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, GRADIENT))
    }
}

impl Graph {
    /// The distillation loss with forward KL; returns row losses and terms. Temperature, alpha and the means' denominators
    /// come from the step state.
    ///
    /// # Errors
    /// [`Error::Shape`] when logits and labels do not meet.
    pub fn distill_loss(
        &mut self,
        student: TensorId,
        labels: TensorId,
        teacher: Option<TensorId>,
        classes: usize,
    ) -> Result<(TensorId, TensorId), Error> {
        self.distill_loss_of(student, labels, teacher, classes, LossTerms::default())
    }

    /// As [`Graph::distill_loss`], of these terms.
    ///
    /// # Errors
    /// [`Error::Shape`] when logits, labels and weights do not meet; [`Error::Unsupported`] when a number is out of range, or
    /// decoupled KL has fewer than three classes.
    pub fn distill_loss_of(
        &mut self,
        student: TensorId,
        labels: TensorId,
        teacher: Option<TensorId>,
        classes: usize,
        terms: LossTerms,
    ) -> Result<(TensorId, TensorId), Error> {
        terms.check(classes)?;
        let LossTerms { divergence, weights, standardise, smoothing } = terms;
        let inputs: Vec<TensorId> =
            [student, labels].into_iter().chain(teacher).chain(weights).collect();
        let weighted = weights.is_some();
        let op = DistillLoss { classes, weighted, divergence, standardise, smoothing };
        let outputs = self.add(Arc::new(op), &inputs)?;
        Ok((outputs[0], outputs[1]))
    }
}
