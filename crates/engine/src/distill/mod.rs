//! Distillation: the loss as a graph, training, evaluation, and the three arms of a run.

mod answer_file;
mod arms;
mod checkpoint;
mod diagnose;
pub mod embeddings;
pub mod evaluate;
mod features;
mod feeds;
pub mod forecast;
mod guesses;
mod journal;
mod lock;
mod log;
pub mod main_memory;
mod measure;
pub mod metrics;
mod observer;
mod place;
mod plans;
pub(crate) mod program;
pub mod rates;
mod replace;
mod saved;
pub mod scores;
mod settings;
mod setup;
mod sweep;
mod teacher;
mod tensorboard;
mod train;
mod trainer;

pub use crate::measures::correlation;
pub use answer_file::{Answerer, Answers, save_answers};
pub use arms::{Begin, Prepared, Run, prepare, run};
pub use checkpoint::{Best, Checkpoints, State, StateShape};
pub use evaluate::Evaluator;
pub use features::{Features, NO_FEATURES, TermMetrics};
pub use forecast::Forecast;
pub use metrics::{Metrics, Scale, Shares};
pub use observer::{Arm, Event, Observer, Silent};
pub use program::{
    TeacherInput, forward_plan, forward_plan_in, loss_plan, step_plan, student_layout,
    training_plan, update_plan,
};
pub use scores::Scores;
pub use setup::Setup;
pub(crate) use sweep::GRID;
pub use sweep::{Axis, Grid, Sweep, sweep};
pub use teacher::{Teacher, frozen_store};
pub use train::{Trained, train};
pub use trainer::{Lesson, optimizer_config, training_parts};
