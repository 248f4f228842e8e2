//! What a run leaves: `report.json`, the sentence and the table that sum it up, and the page `report.html`.

pub mod answers;
mod charts;
mod compare;
mod folder;
pub mod guesses;
mod knowledge;
mod page;
mod picture;
mod rows;
mod sweep;
#[cfg(test)]
mod tests;
mod verdict;

pub use crate::results::{
    ArmReport, Arms, BiasCorrection, ClassReport, Examples, MOST_CLASSES, Report,
};
pub use crate::words::thousands;
pub use answers::{Answers, TestLogits};
pub use compare::compare;
pub use folder::{Epoch, Record};
pub use guesses::{Guess, GuessedText, Guesses};
pub use page::{PAGE, single, write_page};
use rows::percent;
pub use rows::{Row, UNKNOWN};
pub use sweep::{
    FailedRun, SWEEP, SWEEP_PAGE, Setting, Spread, SweepPoint, SweepReport, SweepRow, SweepRun,
    sweep_page, write_sweep_page,
};

/// Name of the report in a run's folder.
pub const REPORT: &str = "report.json";
