//! How far rows of features are from the teacher's: per-row loss, and the gradient by the student's.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::feature_loss::{self, Measure};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: the student's features and the teacher's, both [examples, positions, columns], or [examples, columns], and
/// lengths \[examples] (integers: positions from there on are padding, and an example of length 0 is). Outputs: row
/// losses [examples · positions], whose sum is `weight` times the mean over what counts, and the gradient of that sum
/// by the student's features. The teacher's have none.
#[derive(Clone, Copy, Debug)]
pub struct FeatureLoss {
    /// What is measured.
    pub measure: Measure,
    /// Weight of the term.
    pub weight: f32,
}

const GRADIENT: usize = 1;

impl FeatureLoss {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<feature_loss::FeatureLoss, Error> {
        let [student, teacher, lengths] = inputs[..] else {
            unreachable!("the builder gives three inputs")
        };
        let (examples, positions, cols, tokens) = match student.shape[..] {
            [examples, positions, cols] => (examples, positions, cols, true),
            [examples, cols] => (examples, 1, cols, false),
            _ => (0, 0, 0, false),
        };
        let floats = student.dtype == DType::F32 && teacher.dtype == DType::F32;
        let fits = lengths.shape == [examples] && lengths.dtype == DType::I32;
        if !fits || !floats || student.shape != teacher.shape || student.is_empty() {
            let needed = "features [examples, positions, columns] or [examples, columns] of both \
                          models, and lengths [examples]";
            return Err(mismatch(self.name(), inputs, needed));
        }
        let (rows, Self { measure, weight }) = (examples * positions, *self);
        let gradient = false;
        Ok(feature_loss::FeatureLoss { rows, cols, measure, positions, tokens, weight, gradient })
    }
}

impl Op for FeatureLoss {
    fn name(&self) -> &'static str {
        "feature_loss"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let kernel = self.kernel(inputs)?;
        Ok(vec![vec![kernel.rows], inputs[0].shape.clone()])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if at.has_upstream(GRADIENT) {
            return Err(at.missing(self.name()));
        }
        let made = at.output(GRADIENT);
        let gradient = if at.upstream_is_one(0) {
            made
        } else {
            let upstream = at.upstream(0);
            let mut column = at.graph.shape(made).to_vec();
            *column.last_mut().expect("features have columns") = 1;
            let column = at.graph.reshape(upstream, &column)?;
            at.graph.mul(made, column)?
        };
        Ok(vec![Some(gradient), None, None])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let gradient = site.wanted[GRADIENT];
        let kernel = feature_loss::FeatureLoss { gradient, ..self.kernel(&site.inputs)? };
        let mut args: Vec<ArgRef> = (0..3).map(ArgRef::Input).collect();
        args.push(ArgRef::Output(0));
        args.extend(gradient.then_some(ArgRef::Output(GRADIENT)));
        Ok(vec![Lowered::new(kernel, args)])
    }
}

impl Graph {
    /// Row losses of the student's features against the teacher's; see [`FeatureLoss`]. The means' denominators come
    /// from the step state.
    ///
    /// # Errors
    /// [`Error::Shape`] when the features do not meet.
    pub fn feature_loss(
        &mut self,
        student: TensorId,
        teacher: TensorId,
        lengths: TensorId,
        op: FeatureLoss,
    ) -> Result<TensorId, Error> {
        Ok(self.add(Arc::new(op), &[student, teacher, lengths])?[0])
    }
}
