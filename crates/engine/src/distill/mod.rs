//! Distillation: the loss as a graph, training, evaluation, and the three arms of a run.

mod arms;
pub mod evaluate;
pub mod metrics;
mod observer;
pub(crate) mod program;
mod teacher;
mod trainer;

pub(crate) use arms::student_data;
pub use arms::{Run, run};
pub use evaluate::Evaluator;
pub use metrics::Metrics;
pub use observer::{Arm, Event, Observer, Silent};
pub use program::{TeacherInput, forward_plan, loss_plan, training_plan};
pub use teacher::{Teacher, frozen_store};
pub use trainer::{Trained, optimizer_config, train};
