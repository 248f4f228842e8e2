//! What a run measures, as plain data.

mod arm;
mod measure;
pub mod metrics;
mod report;
pub mod scores;
mod speed;

pub use arm::Arm;
pub use measure::{Format, Measure};
pub use metrics::{Metrics, Scale, Shares};
pub use report::{ArmReport, Arms, BiasCorrection, ClassReport, Examples, MOST_CLASSES, Report};
pub use scores::{ACCURACY, ERRORS, Scores};
pub use speed::Speed;
