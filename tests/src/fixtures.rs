//! Files of tensors that PyTorch computed.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// A file of fixtures.
#[derive(Debug)]
pub struct Fixtures(Vec<u8>);

impl Fixtures {
    /// Reads one of tests/fixtures.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        Self(std::fs::read(path).unwrap())
    }

    /// Shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).ok().map(|tensor| tensor.shape().to_vec())
    }

    /// Numbers of a tensor.
    ///
    /// # Panics
    /// When there is no such tensor of floats.
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

    /// Numbers of a tensor.
    ///
    /// # Panics
    /// When there is no such tensor of integers.
    pub fn integers(&self, name: &str) -> Vec<i32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I32);
        bytemuck::pod_collect_to_vec(tensor.data())
    }
}
