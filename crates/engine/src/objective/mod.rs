//! What is minimised: the terms of the loss, where the teacher's answers come from, and the graphs of both, compiled.

pub(crate) mod hidden;
pub(crate) mod plans;
pub(crate) mod teacher;

pub use hidden::{Features, NO_FEATURES, TermMetrics};
pub use plans::{
    LOGITS, TeacherInput, forward_plan, forward_plan_in, loss_plan, step_plan, student_layout,
    training_plan, update_plan,
};
pub(crate) use teacher::Named;
pub use teacher::{Teacher, frozen_store};
