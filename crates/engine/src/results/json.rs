//! Files that runs and sweeps leave, as text and as JSON.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::files::io_error;

/// The error of a file of a run or a sweep.
pub(super) fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Run { path: path.display().to_string(), problem: problem.into() }
}

/// A file as text.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(io_error(path))
}

/// A file of JSON.
pub(super) fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_str(&read(path)?).map_err(|error| bad(path, format!("damaged: {error}")))
}
