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

/// Name of the file in a run's folder that says how it was begun and what is finished.
pub(crate) const JOURNAL: &str = "journal.json";
