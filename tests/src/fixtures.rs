//! Files of what PyTorch computed; see `tests/fixtures/README.md`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::models;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// The folder `tests/fixtures`.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A folder with a model of these tensors and this configuration, as transformers saves it, and a tokenizer.
///
/// # Panics
/// When it cannot be written.
pub fn model_folder(tensors: Vec<(&str, TensorView<'_>)>, config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(folder.path().join(models::WEIGHTS), bytes).unwrap();
    fs::write(folder.path().join(models::CONFIG), config).unwrap();
    let tokenizer = "tokenizer.json";
    fs::copy(fixtures().join("bert").join(tokenizer), folder.path().join(tokenizer)).unwrap();
    folder
}

/// A safetensors file of `tests/fixtures`.
#[derive(Debug)]
pub struct Fixtures(Vec<u8>);

impl Fixtures {
    /// Reads the file of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn open(name: &str) -> Self {
        Self(fs::read(fixtures().join(name)).unwrap())
    }

    /// The file.
    ///
    /// # Panics
    /// When it is damaged.
    pub fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    /// The file's metadata.
    ///
    /// # Panics
    /// When it has none.
    pub fn metadata(&self) -> HashMap<String, String> {
        let (_, header) = SafeTensors::read_metadata(&self.0).unwrap();
        header.metadata().clone().unwrap()
    }

    /// The shape of a tensor, if the file has it.
    ///
    /// # Panics
    /// When the file is damaged.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let file = self.file();
        file.tensor(name).ok().map(|tensor| tensor.shape().to_vec())
    }

    /// The elements of a tensor of f32 or f64.
    ///
    /// # Panics
    /// When the file has no such tensor.
    pub fn floats(&self, name: &str) -> Vec<f64> {
        let file = self.file();
        let tensor = file.tensor(name).unwrap();
        match tensor.dtype() {
            Dtype::F64 => bytemuck::pod_collect_to_vec(tensor.data()),
            Dtype::F32 => {
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
                values.into_iter().map(f64::from).collect()
            }
            other => panic!("{name} holds {other:?}"),
        }
    }

    /// The elements of a tensor of i32.
    ///
    /// # Panics
    /// When the file has no such tensor.
    pub fn integers(&self, name: &str) -> Vec<i32> {
        let file = self.file();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I32);
        bytemuck::pod_collect_to_vec(tensor.data())
    }
}
