//! What a model is worth: its answers, metrics over a data set, speed, and what a run reports of each arm.

pub(crate) mod arm;
pub mod batches;
pub mod evaluator;
pub mod neighbours;
pub(crate) mod predictions;

pub use evaluator::Evaluator;
