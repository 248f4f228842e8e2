//! Names of a model's files, and the error that names one.

use std::path::Path;

use crate::error::Error;

/// Name of a model's configuration.
pub const CONFIG: &str = "config.json";
/// What transformers' image processors do to pictures for a model.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
/// Name of a model's file of parameters.
pub const WEIGHTS: &str = "model.safetensors";
/// The same where matrices are in bytes. Another name, as other programs would take the bytes for the weights.
pub const INT8_WEIGHTS: &str = "model.int8.safetensors";

/// The error of a file that is wrong.
pub(super) fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Model { path: path.display().to_string(), problem: problem.into() }
}
