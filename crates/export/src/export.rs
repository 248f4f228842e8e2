//! What is exported.

use std::path::Path;

use distil_gpu_engine::models::ModelConfig;

use crate::parts::Part;

/// What is exported.
#[derive(Debug)]
pub struct Export<'a> {
    /// Folder or file of the model.
    pub from: &'a Path,
    /// The model.
    pub config: &'a ModelConfig,
    /// Values of its parameters, in its order.
    pub values: &'a [Vec<f32>],
    /// What the folder has beside the model.
    pub parts: Vec<&'static Part>,
    /// Licence for the card, by its SPDX name.
    pub licence: Option<String>,
    /// What the page for browsers is made with.
    pub web: distil_gpu_web::Options,
    /// Whether an exported folder is replaced.
    pub force: bool,
}
