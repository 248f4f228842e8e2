//! What is minimised: the terms of the loss, where the teacher's answers come from, and the graphs of both, compiled.

pub(crate) mod hidden;
pub(crate) mod names;
pub(crate) mod plans;
pub(crate) mod teacher;

pub use hidden::{HiddenLosses, TermMetrics};
pub use plans::{
    LOGITS, TARGETS, TeacherInput, forward_plan, forward_plan_in, forward_plan_with_head,
    loss_plan, step_plan, student_layout, training_plan, update_plan,
};
pub(crate) use teacher::Named;
pub use teacher::{
    Parameters, TeacherAnswers, TeacherLogits, TeacherModel, frozen_store, store_of,
};

use distil_gpu_kernels::Divergence;

use crate::data::Examples;
use crate::error::Error;
use crate::models::ModelConfig;
pub use crate::models::RawAnswers;
use crate::recipe::Distil;

/// What a student with a teacher minimises.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Temperature T of both models' answers in the soft term.
    pub temperature: f32,
    /// Weight of the soft term, as a share of both.
    pub alpha: f32,
    /// Sum of the weights of the soft and the hard term.
    pub weight: f32,
    /// How far the student's answers are from the teacher's, in the soft term.
    pub divergence: Divergence,
    /// Whether the soft term is of logits less their row's mean, over its standard deviation.
    pub standardise: bool,
    /// What is learnt from inside the teacher.
    pub hidden: HiddenLosses,
}

/// The teacher's answers alone, at a temperature of 1.
pub static ANSWERS_ALONE: Objective = Objective {
    temperature: 1.0,
    alpha: 1.0,
    weight: 1.0,
    divergence: Divergence::ForwardKl,
    standardise: false,
    hidden: HiddenLosses::NONE,
};

impl Objective {
    /// What a recipe asks for, of these models and the students' examples; see [`HiddenLosses::of`].
    ///
    /// # Errors
    /// As [`HiddenLosses::of`], and where decoupled KL has fewer than three classes.
    pub fn of(
        distil: &Distil,
        student: &ModelConfig,
        teacher: Option<&ModelConfig>,
        examples: Option<&Examples>,
    ) -> Result<Self, Error> {
        if !distil.divergence.is_of_outcomes() && student.answers() < 3 {
            return Err(Error::Unsupported {
                what: format!(
                    "`distil.divergence = \"dkd\"` compares the classes other than the label among themselves, and of {} \
                     there is one alone",
                    student.answers()
                ),
                instead: "leave `divergence` out, or set it to \"reverse-kl\"".to_owned(),
            });
        }
        Ok(Self {
            temperature: distil.temperature,
            alpha: distil.alpha,
            weight: distil.weight(),
            divergence: distil.divergence,
            standardise: distil.standardise,
            hidden: HiddenLosses::of(distil, student, teacher, examples)?,
        })
    }
}
