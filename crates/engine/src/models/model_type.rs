//! A kind of model, as the registry has it.

use std::path::Path;

use serde_json::Value;

use super::ModelConfig;
use crate::error::Error;

/// Reads a model's configuration: its folder, and what `config.json` there says.
type Reader = fn(&Path, &Value) -> Result<ModelConfig, Error>;

/// A kind of model.
#[derive(Clone, Copy, Debug)]
pub struct ModelType {
    /// `model_type` of its configurations.
    pub name: &'static str,
    read: Reader,
}

impl ModelType {
    pub(super) const fn new(name: &'static str, read: Reader) -> Self {
        Self { name, read }
    }

    /// The model that a folder's configuration describes.
    ///
    /// # Errors
    /// [`Error::Model`] when it makes no sense.
    pub fn read(&self, folder: &Path, json: &Value) -> Result<ModelConfig, Error> {
        (self.read)(folder, json)
    }
}
