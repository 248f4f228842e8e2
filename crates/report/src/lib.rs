//! The pages of runs and sweeps: one file each with everything in it, drawn from what a run leaves
//! ([`distil_gpu_engine::results`]); nothing is computed here that a table does not say too.
//!
//! ```no_run
//! distil_gpu_report::write_page("runs/default".as_ref())?;
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

mod charts;
mod compare;
mod heat;
mod knowledge;
mod page;
mod sweep;
#[cfg(test)]
mod tests;

pub use compare::compare;
pub use page::{single, write_page};
pub use sweep::{sweep_page, write_sweep_page};
