//! The teacher of an arm.

use crate::device::{Device, HostTensor};
use crate::error::Error;
use crate::models::ModelConfig;
use crate::store::{Layout, Part, Storage, Store};

/// Where the softened answers come from.
#[derive(Debug)]
pub enum Teacher {
    /// A model that answers within the step, forward only.
    Model {
        /// What it is.
        config: Box<ModelConfig>,
        /// Its parameters on the device.
        store: Box<Store>,
    },
    /// Answers given beforehand: raw logits [examples, classes] of the training data, in its order.
    Logits {
        /// All of them.
        values: Vec<f32>,
        /// Columns.
        classes: usize,
    },
}

impl Teacher {
    /// Puts a model's parameters on the device, in f32.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn from_model(
        device: &mut dyn Device,
        config: ModelConfig,
        values: &[Vec<f32>],
    ) -> Result<Self, Error> {
        let store = frozen_store(device, &config, values, Storage::F32)?;
        Ok(Self::Model { config: Box::new(config), store: Box::new(store) })
    }

    /// Copies the answers for these examples into `out` [rows, classes]; what lies behind them is left.
    pub(crate) fn gather(values: &[f32], classes: usize, indices: &[u32], out: &mut [f32]) {
        for (row, &index) in out.chunks_exact_mut(classes).zip(indices) {
            row.copy_from_slice(&values[index as usize * classes..][..classes]);
        }
    }
}

/// A store that holds a model's parameters and nothing else.
///
/// # Errors
/// [`Error::BeyondF16`]; when the device has no room.
pub fn frozen_store(
    device: &mut dyn Device,
    config: &ModelConfig,
    values: &[Vec<f32>],
    storage: Storage,
) -> Result<Store, Error> {
    let layout = Layout::stored(config.model().parameters(), storage)?;
    let metrics = distil_gpu_kernels::distill_loss::TERMS;
    let store = Store::new(device, "frozen model", layout, &[Part::Parameters], metrics)?;
    let mut all = values.iter().enumerate();
    match all.try_for_each(|(index, values)| store.write(device, Part::Parameters, index, values)) {
        Ok(()) => Ok(store),
        Err(error) => {
            store.free(device);
            Err(error)
        }
    }
}

/// An input by name, for [`Device::run`].
pub(crate) type Named<'a> = (&'a str, HostTensor<'a>);
