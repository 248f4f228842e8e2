//! What `eval` and `logits` are told alike: a model, and how it is asked about data.

use std::path::{Path, PathBuf};

use anyhow::Result;
use distil_gpu_engine::kernels::DType;
use distil_gpu_engine::models::{self, Source};
use distil_gpu_engine::recipe::Weights;

use super::Images;

/// A model and how it reads data.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// Folder with config.json and model.safetensors, or hf:OWNER/NAME for a model of the hub
    pub model: PathBuf,
    /// Column of the texts, where they are in columns; twice for pairs of texts
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text: Vec<String>,
    /// Rows without a text are passed over and counted, rather than refused: the others move up
    #[arg(long)]
    pub skip_empty: bool,
    #[command(flatten)]
    pub images: Images,
    /// Which of the model's classes is which of the data's, where they have other names: MODEL'S=DATA'S, parted by commas
    #[arg(long, value_name = "NAME=NAME,…")]
    pub labels: Vec<String>,
    /// What its matrices are stored in on the device, `as-is` each in what its file has it in; what is computed is f32 either
    /// way [default: int8 of a model that is saved so, else f32]
    #[arg(long, value_name = "TYPE", value_parser = super::weights())]
    pub weights: Option<Weights>,
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = super::device)]
    pub device: String,
}

impl ModelArgs {
    /// What the parameters of the model of this folder are stored in.
    pub fn types(&self, folder: &Path, source: &Source) -> Result<Vec<DType>> {
        let saved = || models::storage(folder).map(Weights::In);
        let weights = self.weights.map_or_else(saved, Ok)?;
        Ok(source.types(weights.storage())?)
    }
}
