//! What it costs of a frozen model's answers that its parameters are stored in less than f32.

use distil_gpu_kernels::DType;

use crate::data::Split;
use crate::device::Device;
use crate::error::Error;
use crate::measure::Evaluator;
use crate::measure::sample::TOKENS;
use crate::models::{BatchEncoder, ModelConfig, Output, ProblemType};
use crate::objective::TeacherModel;
use crate::results::StoredWeights;
use crate::store::Store;
use crate::task::{Measuring, TaskRef};

/// What makes the store of the same model in f32.
pub(crate) type Whole<'a> = dyn Fn(&mut dyn Device) -> Result<Store, Error> + 'a;

/// The most bytes in f32 of a model that is held beside itself.
const MOST_BYTES: u64 = 2 << 30;

/// How a model is stored, with the reason where its answers are not compared with those of the same model in f32; nothing where
/// it is in f32.
pub(crate) fn stored(config: &ModelConfig, types: &[DType]) -> Option<StoredWeights> {
    let mut stored = StoredWeights::of(&config.model().parameters(), types)?;
    let classes = matches!(config.output(), Output::Classes(_) | Output::Vocabulary(_));
    if !classes || config.problem != ProblemType::default() {
        stored.not_compared = Some("its answers are no distribution over classes".to_owned());
    } else if stored.f32_bytes > MOST_BYTES {
        let (bytes, most) = (stored.f32_bytes as f64 / 1e9, MOST_BYTES as f64 / 1e9);
        stored.not_compared =
            Some(format!("it takes {bytes:.2} GB there, and up to {most:.2} GB are compared"));
    }
    Some(stored)
}

/// How the model in `store` is stored, and the KL of its answers to those of the same model in f32, on some of the test data.
///
/// # Errors
/// When the device fails, or the model cannot be read.
pub(crate) fn compared(
    device: &mut dyn Device,
    (config, store): (&ModelConfig, &Store),
    whole: &Whole<'_>,
    split: &Split,
) -> Result<Option<StoredWeights>, Error> {
    let Some(mut stored) = stored(config, &store.layout.types) else { return Ok(None) };
    if stored.not_compared.is_none() {
        let own = TeacherModel { config: config.clone(), store: whole(device)? };
        let compared = compare(device, (config, store), &own, split);
        own.store.free(device);
        let (kl, answers) = compared?;
        (stored.kl, stored.answers) = (Some(kl), answers);
    }
    Ok(Some(stored))
}

/// The mean KL over some answers, and how many.
fn compare(
    device: &mut dyn Device,
    (config, store): (&ModelConfig, &Store),
    whole: &TeacherModel,
    split: &Split,
) -> Result<(f64, usize), Error> {
    let data = &split.test;
    let feed = BatchEncoder::new(&config.input, data.examples())?;
    if TaskRef::of_model(config).measuring() == Measuring::Loss {
        let length = feed.shape(&feed.sample(1), 1).length.max(1);
        let rows = feed.sample((TOKENS / length).clamp(1, feed.len()));
        let mut evaluator = Evaluator::new(config, store).against(Some(whole));
        let compared = evaluator.kl(device, (&feed, data), &rows);
        evaluator.close(device);
        return compared;
    }
    let mut logits = |store| {
        let mut evaluator = Evaluator::new(config, store);
        let logits = evaluator.logits(device, &feed, &mut |_| ());
        evaluator.close(device);
        logits
    };
    let (ours, theirs) = (logits(store)?, logits(&whole.store)?);
    let width = config.answer_len();
    let rows = ours.chunks_exact(width).zip(theirs.chunks_exact(width));
    let count = rows.len();
    let sum: f64 = rows.map(|(ours, theirs)| kl(theirs, ours)).sum();
    Ok((sum / count.max(1) as f64, count))
}

/// KL of the distribution of some logits from that of others, Σ p (ln p - ln q), in nats.
fn kl(logits: &[f32], from: &[f32]) -> f64 {
    let logs = |logits: &[f32]| {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let less: Vec<f64> = logits.iter().map(|z| f64::from(z - most)).collect();
        let ln_sum = less.iter().map(|z| z.exp()).sum::<f64>().ln();
        less.into_iter().map(move |z| z - ln_sum).collect::<Vec<f64>>()
    };
    let pairs = logs(logits).into_iter().zip(logs(from));
    pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_is_that_of_the_distributions() {
        assert_eq!(kl(&[1.0, 2.0, -3.0], &[11.0, 12.0, 7.0]), 0.0);
        // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2.
        let wanted = 0.75 * 1.5_f64.ln() - 0.25 * 2.0_f64.ln();
        assert!((kl(&[3.0_f32.ln(), 0.0], &[0.5, 0.5]) - wanted).abs() < 1e-7);
    }
}
