//! What a model is worth: its answers, metrics over a data set, speed, and what a run reports of each arm.

pub(crate) mod arm;
pub mod batches;
pub mod choices;
pub(crate) mod continuations;
pub mod evaluator;
pub mod influence;
pub mod neighbours;
pub(crate) mod own_texts;
pub(crate) mod predictions;
pub mod ranking;
pub(crate) mod sample;
pub mod scored;
pub(crate) mod stored;

pub use evaluator::Evaluator;
