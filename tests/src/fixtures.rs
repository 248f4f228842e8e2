//! Files of what PyTorch computed; see `tests/fixtures/README.md`.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// A safetensors file of `tests/fixtures`.
#[derive(Debug)]
pub struct Fixtures(Vec<u8>);

impl Fixtures {
    /// Reads the file of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        Self(std::fs::read(path).unwrap())
    }

    /// The shape of a tensor, if the file has it.
    ///
    /// # Panics
    /// When the file is damaged.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).ok().map(|tensor| tensor.shape().to_vec())
    }

    /// The elements of a tensor of f32 or f64.
    ///
    /// # Panics
    /// When the file has no such tensor.
    pub fn floats(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
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
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I32);
        bytemuck::pod_collect_to_vec(tensor.data())
    }
}
