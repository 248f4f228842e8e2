//! A model as one folder that runtimes take: transformers and this program (`model.safetensors`), onnxruntime and
//! transformers.js (`onnx/`), llama.cpp (`model.gguf`), browsers (`web/`), and a card that says what the model is.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use distil_gpu_engine::models;
//! use distil_gpu_export::{Export, Part};
//!
//! let from = Path::new("runs/movie-sentiment/student");
//! let (config, values) = models::load(from)?;
//! let parts = Part::of(&config);
//! let export = Export {
//!     from,
//!     config: &config,
//!     values: &values,
//!     parts,
//!     licence: None,
//!     web: Default::default(),
//!     force: false,
//! };
//! export.write(Path::new("movie-sentiment"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod card;
mod error;
mod export;
mod folder;
mod measure;
mod onnx;
mod parts;

pub use error::Error;
pub use export::Export;
pub use folder::{Files, MANIFEST};
pub use measure::Measure;
pub use onnx::onnx;
pub use parts::{PARTS, Part};
