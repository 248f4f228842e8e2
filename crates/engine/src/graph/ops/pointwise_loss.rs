//! The distillation loss of outputs that do not share a softmax: per-row loss, reported terms, and the gradient in the
//! outputs' own memory.

use std::sync::Arc;

use distil_gpu_kernels::pointwise_loss::{self, PointwiseKind};
use distil_gpu_kernels::{DType, distill_loss};

use super::{ArgRef, LossTerms, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: the student's outputs [rows, outputs], labels of the same shape (NaN: none), kinds of the rows \[rows] (integers; 0,
/// [`distill_loss::IGNORED`] or [`distill_loss::PADDING`]), and the teacher's outputs, if there is a teacher. Outputs: row
/// losses \[rows], whose sum is the batch's loss; terms [rows, [`distill_loss::TERMS`]], as
/// [`pointwise_loss::PointwiseLoss`] has them; the gradient of the summed loss by the student's outputs.
#[derive(Clone, Copy, Debug)]
pub struct PointwiseLoss {
    /// What is made of each output.
    pub kind: PointwiseKind,
}

const TARGETS: usize = 1;
const KINDS: usize = 2;
const TEACHER: usize = 3;

const TERMS: usize = 1;
const GRADIENT: usize = 2;

impl PointwiseLoss {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<pointwise_loss::PointwiseLoss, Error> {
        let shape = &inputs[0].shape;
        let kinds = inputs[KINDS];
        let alike =
            |input: usize| inputs[input].dtype == DType::F32 && inputs[input].shape == *shape;
        let floats = alike(0) && alike(TARGETS) && (inputs.len() == TEACHER || alike(TEACHER));
        match shape[..] {
            [rows, outputs]
                if floats
                    && rows * outputs > 0
                    && kinds.dtype == DType::I32
                    && kinds.shape == [rows] =>
            {
                let (kind, teacher) = (self.kind, inputs.len() > TEACHER);
                let gradient = false;
                Ok(pointwise_loss::PointwiseLoss { rows, outputs, kind, teacher, gradient })
            }
            _ => {
                let needed = "outputs [rows, outputs], labels of the same shape, kinds [rows] (integers), and a teacher's \
                              outputs of the same shape";
                Err(mismatch(self.name(), inputs, needed))
            }
        }
    }
}

impl Op for PointwiseLoss {
    fn name(&self) -> &'static str {
        "pointwise_loss"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let rows = self.kernel(inputs)?.rows;
        Ok(vec![vec![rows], vec![rows, distill_loss::TERMS], inputs[0].shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if at.has_upstream(TERMS) || at.has_upstream(GRADIENT) {
            return Err(at.missing(self.name()));
        }
        let mut gradients = vec![None; at.node.inputs.len()];
        let made = at.output(GRADIENT);
        gradients[0] = Some(if at.upstream_is_one(0) {
            made
        } else {
            let (upstream, rows) = (at.upstream(0), at.graph.shape(made)[0]);
            let column = at.graph.reshape(upstream, &[rows, 1])?;
            at.graph.mul(made, column)?
        });
        Ok(gradients)
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let gradient = site.wanted[GRADIENT];
        let kernel = pointwise_loss::PointwiseLoss { gradient, ..self.kernel(&site.inputs)? };
        let student = if gradient { ArgRef::Output(GRADIENT) } else { ArgRef::Input(0) };
        let mut args = vec![student];
        args.extend(kernel.teacher.then_some(ArgRef::Input(TEACHER)));
        args.extend([TARGETS, KINDS].map(ArgRef::Input));
        args.extend([ArgRef::Output(0), ArgRef::Output(TERMS)]);
        Ok(vec![Lowered::new(kernel, args)])
    }

    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, GRADIENT))
    }
}

impl Graph {
    /// The distillation loss of outputs [rows, outputs] that do not share a softmax; returns row losses and terms, as
    /// [`Graph::distill_loss`] does. `labels` are f32 of the same shape, NaN where there is none; `kinds` \[rows] (integers) say
    /// by 0, [`distill_loss::IGNORED`] and [`distill_loss::PADDING`] in which terms a row counts. A row counts in the hard term if
    /// it has a label, which the step's scale has to know. Temperature, alpha and the scales come from the step state.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not meet; [`Error::Unsupported`] when a number of the divergence is out of range,
    /// or it is decoupled KL.
    pub fn pointwise_loss(
        &mut self,
        student: TensorId,
        labels: TensorId,
        kinds: TensorId,
        teacher: Option<TensorId>,
        kind: PointwiseKind,
    ) -> Result<(TensorId, TensorId), Error> {
        if let PointwiseKind::Logistic(divergence) = kind {
            LossTerms { divergence, ..LossTerms::default() }.check_pointwise()?;
        }
        let inputs: Vec<TensorId> = [student, labels, kinds].into_iter().chain(teacher).collect();
        let outputs = self.add(Arc::new(PointwiseLoss { kind }), &inputs)?;
        Ok((outputs[0], outputs[1]))
    }
}
