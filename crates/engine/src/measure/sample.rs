//! Some training examples that a frozen model is judged by, and the plans that do it.

use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::layout::StorePart;
use crate::models::{BatchEncoder, BatchShape, Draw, HostBatch, ModelConfig};
use crate::objective::frozen_store;
use crate::plan::Plan;
use crate::store::{Storage, Store};

/// Tokens of the training data that layers and their parts are judged by, as far as rows are whole.
pub const TOKENS: usize = 512;

/// A batch of training examples.
pub(super) struct Sample {
    /// The numbers of the examples.
    pub rows: Vec<u32>,
    pub shape: BatchShape,
    pub batch: HostBatch,
}

impl Sample {
    /// Examples of about so many [`TOKENS`], one at least.
    pub fn of(feed: &BatchEncoder<'_>) -> Self {
        let length = feed.shape(&feed.sample(1), 1).length;
        let rows = feed.sample((TOKENS / length).clamp(1, feed.len()));
        let shape = feed.shape(&rows, rows.len());
        let mut batch = HostBatch::default();
        feed.fill(&rows, shape, Draw::FIXED, &mut batch);
        Self { rows, shape, batch }
    }
}

/// Works with a frozen model of f32 on a device, and frees it.
///
/// # Errors
/// When the device fails, and as `work`.
pub(super) fn with_frozen<T>(
    device: &mut dyn Device,
    (config, values): (&ModelConfig, &[Vec<f32>]),
    work: impl FnOnce(&mut dyn Device, &Store) -> Result<T, Error>,
) -> Result<T, Error> {
    let store = frozen_store(device, config, values, Storage::F32)?;
    let done = work(device, &store);
    store.free(device);
    done
}

/// Works with a plan of that model, and unloads it.
///
/// # Errors
/// When the device refuses the plan, and as `work`.
pub(super) fn with_plan<T>(
    device: &mut dyn Device,
    store: &Store,
    plan: &Plan,
    work: impl FnOnce(&mut dyn Device, ProgramId) -> Result<T, Error>,
) -> Result<T, Error> {
    let place = |at: StorePart| store.buffer(at.part, at.segment);
    let program = device.load(plan, &place)?;
    let done = work(device, program);
    device.unload(program);
    done
}
