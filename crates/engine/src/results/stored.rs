//! How a frozen teacher's parameters lie in memory, and what that costs of its answers.

use std::collections::BTreeMap;

use distil_gpu_kernels::DType;
use serde::{Deserialize, Serialize};

use crate::layout::ParameterSpec;
use crate::words::counted;

/// Parameters by what they are stored in, and what that takes and costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredWeights {
    /// By the name of the type.
    pub types: BTreeMap<String, TypeShare>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes that they would take in f32.
    pub f32_bytes: u64,
    /// KL of its answers to those of the same model in f32, the mean over [`Self::answers`] of the test data, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Answers that were compared: tokens, or examples.
    #[serde(default)]
    pub answers: usize,
    /// Why they were not, where they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
}

/// The parameters of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeShare {
    /// How many.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl StoredWeights {
    /// Of a model with these parameters in these types; nothing where all are f32.
    pub fn of(parameters: &[ParameterSpec], types: &[DType]) -> Option<Self> {
        if types.iter().all(|dtype| *dtype == DType::F32) {
            return None;
        }
        let mut stored = Self::default();
        for (spec, dtype) in parameters.iter().zip(types) {
            let scales = if *dtype == DType::I8 { DType::F32.bytes_of(spec.shape[0]) } else { 0 };
            let bytes = (dtype.bytes_of(spec.len()) + scales) as u64;
            let share = stored.types.entry(dtype.name().to_owned()).or_default();
            share.tensors += 1;
            share.bytes += bytes;
            stored.bytes += bytes;
            stored.f32_bytes += DType::F32.bytes_of(spec.len()) as u64;
        }
        Some(stored)
    }

    /// Its types in words, that of most bytes first.
    pub fn in_words(&self) -> String {
        let mut shares: Vec<_> = self.types.iter().collect();
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(share.bytes));
        let shown = shares
            .iter()
            .map(|(name, share)| format!("{} in {name}", counted(share.tensors, "tensor")));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// What it costs of the answers, in words.
    pub fn cost_in_words(&self) -> String {
        match (self.kl, &self.not_compared) {
            (Some(kl), _) => {
                format!("KL to itself in f32 {kl:.2e} nats, over {} answers", self.answers)
            }
            (None, Some(why)) => format!("not compared with itself in f32: {why}"),
            (None, None) => "not compared with itself in f32".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use distil_gpu_kernels::Blocks;

    use super::*;
    use crate::layout::Init;

    #[test]
    fn bytes_are_those_of_the_blocks() {
        let spec = |shape: &[usize]| ParameterSpec {
            name: String::new(),
            shape: shape.to_vec(),
            decay: false,
            init: Init::Constant(0.0),
        };
        let specs = [spec(&[3, 256]), spec(&[2, 256]), spec(&[5])];
        let types = [DType::Blocks(Blocks::Q4_K), DType::Blocks(Blocks::Q6_K), DType::F32];
        let stored = StoredWeights::of(&specs, &types).unwrap();
        assert_eq!((stored.bytes, stored.f32_bytes), (3 * 144 + 2 * 212 + 20, 4 * 1285));
        assert_eq!(stored.in_words(), "1 tensor in q4_k, 1 tensor in q6_k, 1 tensor in f32");
        assert_eq!(StoredWeights::of(&specs, &[DType::F32; 3]), None);
    }
}
