//! The engine of distil-gpu: graph, differentiation, plans, devices, and the distillation trainer.
//!
//! `recipe → data → graph → differentiate → Plan → Device → metrics → run folder`
//!
//! The ways in are [`prelude`], [`predict::Predictor`] and [`run`]: a recipe, a run, a report.
//!
//! ```no_run
//! use distil_gpu_engine::prelude::*;
//!
//! let recipe = Recipe::embedded_default(&["train.epochs=5".to_owned()])?;
//! let mut device = select(Choice::Auto, GpuOptions::default())?.device;
//! let finished = run(prepare(&recipe, Begin::New)?, &mut *device, &mut Silent)?;
//! println!("{}", finished.report.sentence());
//! # Ok::<(), Error>(())
//! ```
//!
//! Below them: [`graph`] and [`plan`] (a graph of one's own, compiled), [`device`], [`models`], [`task`], [`data`].

pub mod bench;
pub mod bytes;
pub mod device;
pub mod error;
pub mod files;
pub mod forecast;
pub mod generate;
pub mod graph;
pub mod layout;
pub mod measure;
pub mod models;
pub mod nn;
pub mod objective;
pub mod plan;
pub mod predict;
pub mod prelude;
pub mod recipe;
pub mod results;
pub mod run;
pub mod scores;
pub mod scratch;
mod sealed;
pub mod session;
pub mod store;
pub mod task;
pub mod teacher_cache;
mod tensor_file;
pub mod train;
pub mod tune;
pub mod verify;

pub use distil_gpu_data as data;
use distil_gpu_data::floats;
pub use distil_gpu_data::words;
pub use distil_gpu_kernels as kernels;
pub use error::Error;
