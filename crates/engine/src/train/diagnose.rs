//! Finds where a training diverged.

use crate::device::Device;
use crate::error::Error;
use crate::objective::plans;
use crate::plan::Precision;
use crate::store::Store;
use crate::train::trainer::Trainer;
use crate::train::{Checkpoints, State, TrainingJob};

/// The error for a training that met NaN or infinity before `trainer`'s next step.
///
/// Trains again from the last checkpoint, or from the first weights, looks at the state after each step,
/// and takes the first bad step once more with every tensor of it laid open.
///
/// # Errors
/// When the device fails meanwhile.
pub(crate) fn diagnose(
    device: &mut dyn Device,
    job: &TrainingJob<'_>,
    trainer: &mut Trainer<'_>,
    store: &Store,
    checkpoints: &Checkpoints,
) -> Result<Error, Error> {
    let end = trainer.step;
    let saved = checkpoints.latest(job.arm, &trainer.shape_of_state())?;
    let start = saved.unwrap_or_else(|| trainer.initial());
    let mut before = start.clone();
    trainer.restore(device, &start)?;
    while trainer.step < end {
        trainer.advance(device)?;
        let after = trainer.state(device)?;
        if !after.is_finite() {
            trainer.restore(device, &before)?;
            let first = first_bad_tensor(device, job, trainer, store)?;
            // Steps whose gradients are beyond f16 change nothing, so parameters are spoilt by an update alone.
            let updated = after.first_not_finite().is_some();
            return Ok(match (first, job.train.precision) {
                (None, Precision::Mixed) if !updated => beyond_f16(job, before.step),
                (first, _) => {
                    let first = first.unwrap_or_else(|| update(trainer, &after));
                    error(job, trainer, before.step, &first)
                }
            });
        }
        before = after;
    }
    // All steps were sound: what the evaluation overflowed on lies in the parameters as they are.
    Ok(error(job, trainer, end, "the test set's loss"))
}

fn update(trainer: &Trainer<'_>, after: &State) -> String {
    match after.first_not_finite() {
        Some(index) => format!("the update of `{}`", trainer.specs()[index].name),
        None => "the sum of the loss terms".to_owned(),
    }
}

/// What the first tensor of the next step is that holds NaN or infinity.
fn first_bad_tensor(
    device: &mut dyn Device,
    job: &TrainingJob<'_>,
    trainer: &mut Trainer<'_>,
    store: &Store,
) -> Result<Option<String>, Error> {
    for number in 0..trainer.batches() {
        let shape = trainer.shape(number)?;
        let (update, _) = crate::train::optimizer::update(job.train, job.config)?;
        let teacher = job.teacher_input();
        let (plan, tensors) = plans::open_plan(job.config, teacher, shape, &update)?;
        let program = device.load(&plan, &|part| job.buffer(store, part))?;
        trainer.run_batch(device, number, Some(program))?;
        let mut first = None;
        for name in tensors {
            if device.output(program, &name)?.iter().any(|value| !value.is_finite()) {
                first = Some(name);
                break;
            }
        }
        device.unload(program);
        if first.is_some() {
            return Ok(first);
        }
    }
    Ok(None)
}

/// The error for a step in which something is beyond f16, however the loss is scaled.
pub(crate) fn beyond_f16(job: &TrainingJob<'_>, step: u32) -> Error {
    Error::NotFinite(format!(
        "training of the {} diverged (NaN or Inf) at step {step}: something in it is beyond the largest number of \
         f16, 65504, and not in f32; leave out `precision`",
        job.arm.title(),
    ))
}

fn error(job: &TrainingJob<'_>, trainer: &Trainer<'_>, step: u32, tensor: &str) -> Error {
    let rate = trainer.learning_rate();
    Error::NotFinite(format!(
        "training of the {} diverged (NaN or Inf) at step {step}: {tensor} is the first that is no number; lower \
         optimizer.lr (now {:?}, {rate:e} at that step), or set clip = 1.0 in its train section",
        job.arm.title(),
        job.train.optimizer.lr(),
    ))
}
