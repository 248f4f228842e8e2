//! What a run measures and leaves, as plain data: figures, `report.json`, the sentence and the table that sum it up, and
//! what its page shows. The crate `distil-gpu-report` draws the page.

pub mod answers;
mod arm;
mod contexts;
pub mod exports;
pub mod guesses;
mod influence;
mod json;
mod measure;
pub mod metrics;
mod picture;
mod record;
mod report;
mod rows;
pub mod scores;
mod speed;
mod stored;
mod sweep;
pub mod texts;
mod verdict;

pub use answers::{Answers, TestLogits};
pub use arm::Arm;
pub use contexts::{Context, Contexts};
pub use exports::{ExportRow, Exports, Figures, Outcome, Way};
pub use guesses::{Guess, GuessedText, Guesses};
pub use influence::{Influence, Removed};
pub use measure::{Format, Measure};
pub use metrics::{Metrics, Scale, Shares};
pub use record::{Epoch, Record};
pub use report::{ArmReport, Arms, BiasCorrection, ClassReport, Examples, MOST_CLASSES, Report};
pub use rows::{Row, UNKNOWN, percent};
pub use scores::{ACCURACY, ERRORS, Scores};
pub use speed::Speed;
pub use stored::{StoredWeights, TypeShare};
pub use sweep::{
    FailedRun, PERPLEXITY, SWEEP, Setting, Spread, SweepPoint, SweepReport, SweepRow, SweepRun,
    named,
};
pub use texts::{Continued, Part, Texts, WRITTEN, Written};

/// Name of the report in a run's folder.
pub const REPORT: &str = "report.json";

/// Name of the page in a run's folder.
pub const PAGE: &str = "report.html";

/// Name of the page in a sweep's folder.
pub const SWEEP_PAGE: &str = "sweep.html";

/// Name of the file in a run's folder that says how it was begun and what is finished.
pub(crate) const JOURNAL: &str = "journal.json";
