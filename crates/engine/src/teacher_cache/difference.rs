//! How far answers that are kept are from those that a teacher gives.

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING, TERMS};
use serde::{Deserialize, Serialize};

use super::binding::Kind;
use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::models::{LABELS, ModelConfig, Output, ProblemType};
use crate::objective::plans::{self, HIDDEN, TEACHER_HIDDEN};
use crate::scratch::Scratch;
use crate::store::Store;

/// How far answers are from a teacher's, in the mean over rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Rows that were compared.
    pub rows: usize,
    /// Of distributions KL(teacher ‖ kept) in nats, at `temperature`; of other numbers the squared error, as a share of the
    /// teacher's own squares.
    pub error: f64,
    /// Largest difference of a number, as a share of the row's largest.
    pub largest: f64,
    /// Temperature of distributions; 0 of other numbers.
    pub temperature: f32,
}

impl Difference {
    /// Both together.
    pub fn and(&self, other: &Self) -> Self {
        let rows = self.rows + other.rows;
        let sum = self.error * self.rows as f64 + other.error * other.rows as f64;
        Self {
            rows,
            error: sum / rows.max(1) as f64,
            largest: self.largest.max(other.largest),
            temperature: self.temperature.max(other.temperature),
        }
    }

    /// The error in words.
    pub fn in_words(&self) -> String {
        let Self { error, temperature, .. } = self;
        match temperature {
            0.0 => format!("a squared error of {error:.1e} of the answers' squares"),
            _ => format!("a KL of {error:.1e} nats at a temperature of {temperature}"),
        }
    }
}

/// Rows that are compared in one go.
const TOGETHER: usize = 256;

/// What compares answers on a device.
#[derive(Debug)]
pub struct Comparison<'a> {
    config: &'a ModelConfig,
    kind: Kind,
    width: usize,
    temperature: f32,
    head: Option<(ProgramId, Scratch)>,
}

impl<'a> Comparison<'a> {
    /// Of answers of this model, at this temperature.
    ///
    /// # Errors
    /// When nothing is kept of such a model, or the device has no room.
    pub fn new(
        device: &mut dyn Device,
        (config, store): (&'a ModelConfig, &Store),
        width: usize,
        temperature: f32,
    ) -> Result<Self, Error> {
        let kind = Kind::of(config)?;
        let head = match kind {
            Kind::Hidden => {
                let plan = plans::head_plan(config, &*store.layout.types, TOGETHER)?;
                let scratch = Scratch::new(device, [&plan])?;
                let program = device.load(&Scratch::shared(plan), &|part| {
                    scratch.buffer(part).or_else(|| store.buffer(part.part, part.segment))
                })?;
                Some((program, scratch))
            }
            Kind::Logits => None,
        };
        Ok(Self { config, kind, width, temperature, head })
    }

    /// Rows of these [rows, width] that are enough to tell.
    pub fn sample<'r>(&self, rows: &'r [f32]) -> &'r [f32] {
        &rows[..rows.len().min(TOGETHER * self.width)]
    }

    /// How far rows that are kept are from a teacher's.
    ///
    /// # Errors
    /// When the device fails.
    pub fn of(
        &self,
        device: &mut dyn Device,
        exact: &[f32],
        kept: &[f32],
    ) -> Result<Difference, Error> {
        let width = self.width;
        let pairs = || exact.chunks_exact(width).zip(kept.chunks_exact(width));
        let largest = |(exact, kept): (&[f32], &[f32])| {
            let size = exact.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let off = exact.iter().zip(kept).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
            if off == 0.0 { 0.0 } else { f64::from(off) / f64::from(size.max(f32::MIN_POSITIVE)) }
        };
        let rows = exact.len() / width;
        let largest = pairs().map(largest).fold(0.0, f64::max);
        let is_distribution = self.kind == Kind::Hidden
            || (matches!(self.config.output(), Output::Classes(_))
                && self.config.problem == ProblemType::SingleLabel
                && width > 1);
        let temperature = if is_distribution { self.temperature } else { 0.0 };
        let sum = match (self.kind, is_distribution) {
            (Kind::Hidden, _) => self.of_heads(device, exact, kept)?,
            (_, true) => pairs().map(|(p, q)| kl(p, q, self.temperature)).sum(),
            (_, false) => pairs().map(|(exact, kept)| squared(exact, kept)).sum(),
        };
        Ok(Difference { rows, error: sum / rows.max(1) as f64, largest, temperature })
    }

    /// The sum over rows of KL between what the head makes of hidden states.
    fn of_heads(&self, device: &mut dyn Device, exact: &[f32], kept: &[f32]) -> Result<f64, Error> {
        let Some((program, _)) = &self.head else { return Ok(0.0) };
        let together = TOGETHER * self.width;
        let state = StepState {
            temperature: self.temperature,
            alpha: 1.0,
            soft_scale: 1.0,
            ..StepState::default()
        };
        let mut sum = 0.0;
        for (exact, kept) in exact.chunks(together).zip(kept.chunks(together)) {
            let rows = exact.len() / self.width;
            let padded = |values: &[f32]| {
                let mut values = values.to_vec();
                values.resize(together, 0.0);
                values
            };
            let (exact, kept) = (padded(exact), padded(kept));
            let mut labels = vec![PADDING; TOGETHER];
            labels[..rows].fill(IGNORED);
            let inputs = [
                (TEACHER_HIDDEN, HostTensor::F32(&exact)),
                (HIDDEN, HostTensor::F32(&kept)),
                (LABELS, HostTensor::I32(&labels)),
            ];
            device.run(*program, &state, &inputs)?;
            let terms = device.output(*program, plans::TERMS)?;
            // The term is T² · KL.
            let squared = f64::from(self.temperature).powi(2);
            let of_row = |terms: &[f32]| f64::from(terms[0]) / squared;
            sum += terms.chunks_exact(TERMS).take(rows).map(of_row).sum::<f64>();
        }
        Ok(sum)
    }

    /// Unloads what it has on the device.
    pub fn close(self, device: &mut dyn Device) {
        if let Some((program, scratch)) = self.head {
            device.unload(program);
            scratch.free(device);
        }
    }
}

/// KL(p ‖ q) of the softmaxes of two rows of logits, in nats.
fn kl(p: &[f32], q: &[f32], temperature: f32) -> f64 {
    let log_shares = |logits: &[f32]| -> Vec<f64> {
        let scaled: Vec<f64> =
            logits.iter().map(|logit| f64::from(*logit) / f64::from(temperature)).collect();
        let most = scaled.iter().fold(f64::NEG_INFINITY, |most, value| most.max(*value));
        let sum: f64 = scaled.iter().map(|value| (value - most).exp()).sum();
        scaled.into_iter().map(|value| value - most - sum.ln()).collect()
    };
    let pairs = log_shares(p).into_iter().zip(log_shares(q));
    pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>().max(0.0)
}

/// The squared error of a row as a share of its squares.
fn squared(exact: &[f32], kept: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let size: f64 = exact.iter().map(|value| square(*value)).sum();
    let off: f64 = exact.iter().zip(kept).map(|(a, b)| square(a - b)).sum();
    if off == 0.0 { 0.0 } else { off / size.max(f64::MIN_POSITIVE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_is_that_of_the_definition() {
        // p = (1/4, 3/4), q = (1/2, 1/2).
        let p = [0.0, 3.0_f32.ln()];
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((kl(&p, &[7.0, 7.0], 1.0) - expected).abs() < 1e-7);
        assert!((kl(&p.map(|logit| 3.0 * logit), &[7.0, 7.0], 3.0) - expected).abs() < 1e-7);
        assert_eq!(kl(&p, &p, 2.0), 0.0);
        assert!((squared(&[3.0, 4.0], &[3.0, 4.5]) - 0.01).abs() < 1e-9);
    }

    #[test]
    fn means_of_parts_are_weighted_by_their_rows() {
        let of = |rows, error, largest| Difference { rows, error, largest, temperature: 2.0 };
        assert_eq!(of(1, 1.0, 0.5).and(&of(3, 2.0, 0.1)), of(4, 1.75, 0.5));
        assert_eq!(Difference::default().and(&of(3, 2.0, 0.1)), of(3, 2.0, 0.1));
    }
}
