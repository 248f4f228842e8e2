//! The answers of this program.

use std::time::Duration;

use distil_gpu_engine::Error;
use distil_gpu_engine::device::Device;
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::models::{BatchEncoder, ModelConfig};
use distil_gpu_engine::objective::frozen_store;
use distil_gpu_engine::store::{Storage, Store};

use super::question::Answered;

/// How long measuring the speed may take, as far as whole passes allow.
const MOST_FOR_SPEED: Duration = Duration::from_secs(20);

/// What a model with these values, so stored, answers on a device.
pub(super) fn answer(
    device: &mut dyn Device,
    config: &ModelConfig,
    (values, storage): (&[Vec<f32>], Storage),
    feed: &BatchEncoder<'_>,
) -> Result<Answered, Error> {
    let store = frozen_store(device, config, values, storage)?;
    let answered = answer_of(device, config, &store, feed);
    store.free(device);
    answered
}

fn answer_of(
    device: &mut dyn Device,
    config: &ModelConfig,
    store: &Store,
    feed: &BatchEncoder<'_>,
) -> Result<Answered, Error> {
    let mut evaluator = Evaluator::new(config, store);
    let logits = evaluator.logits(device, feed, &mut |_| ())?;
    let speed = evaluator.speed_within(device, feed, MOST_FOR_SPEED)?;
    evaluator.close(device);
    Ok(Answered {
        logits,
        rows: None,
        runtime: format!("distil-gpu {}, {}", env!("CARGO_PKG_VERSION"), device.info().name),
        latency_ms: speed.latency.as_secs_f64() * 1e3,
        examples_per_second: speed.examples_per_second,
    })
}
