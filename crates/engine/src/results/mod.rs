//! What a run measures, as plain data.

mod arm;
pub mod metrics;
pub mod scores;

pub use arm::Arm;
pub use metrics::{Metrics, Scale, Shares};
pub use scores::Scores;
