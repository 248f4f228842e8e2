//! The engine of distil-gpu: graph, differentiation, plans, devices, and the distillation trainer.
//!
//! `recipe → data → graph → differentiate → Plan → Device → metrics → run folder`

pub mod bench;
pub mod data;
pub mod device;
pub mod error;
pub mod files;
mod floats;
pub mod forecast;
pub mod graph;
mod guard;
pub mod layout;
pub mod measure;
pub mod measures;
mod memory;
pub mod models;
pub mod nn;
pub mod objective;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod results;
pub mod run;
pub mod scratch;
mod sealed;
pub mod session;
pub mod store;
pub mod task;
mod tensor_file;
pub mod train;
pub mod tune;
pub mod verify;
pub mod words;

pub use distil_gpu_kernels as kernels;
pub use error::Error;
