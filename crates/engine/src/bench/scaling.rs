//! How a distillation step grows with its batch, its texts, the vocabulary and the models' width.

use std::time::Duration;

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::optimizer::Rule;
use serde::Serialize;

use super::seconds;
use crate::device::{Device, HostTensor};
use crate::error::Error;
use crate::graph::ops::OptimizerConfig;
use crate::models::{BatchShape, Encoder, Head, HostBatch, Input, ModelConfig};
use crate::objective::{TeacherInput, student_layout, training_plan};
use crate::session::Session;
use crate::store::Layout;
use crate::verify::numbers::random_labels;

/// Sizes of a step: two BERTs of two layers that guess masked words, the one taught by the other.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Texts of a batch.
    batch: usize,
    /// Tokens of each text.
    tokens: usize,
    vocabulary: usize,
    hidden: usize,
}

const BASE: Sizes = Sizes { batch: 8, tokens: 64, vocabulary: 8192, hidden: 128 };
/// What the base's sizes are multiplied by, one after another.
const FACTORS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
/// Columns of a head.
const HEAD_DIM: usize = 32;

/// A step at one size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// The size that is varied.
    pub size: usize,
    /// Median time of a step.
    pub milliseconds: f64,
    /// Bytes between the step's kernels, as it was planned.
    pub planned_bytes: u64,
    /// Bytes that the device holds for the step: those, parameters, gradients, moments and what the device adds.
    pub device_bytes: u64,
}

/// A step at several sizes of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// What is varied.
    pub axis: &'static str,
    /// From the smallest size on.
    pub points: Vec<Point>,
    /// The power of the size that time grows with: the slope of their logarithms.
    pub time_exponent: f64,
    /// The same for the bytes between the kernels.
    pub memory_exponent: f64,
}

/// Measures a distillation step over each size in turn, the others as they are. Each measurement takes about `budget`;
/// `progress` is told what comes next.
///
/// # Errors
/// When the device has no room or is lost.
pub fn scaling(
    device: &mut dyn Device,
    budget: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Growth>, Error> {
    type Field = fn(&mut Sizes) -> &mut usize;
    let axes: [(&str, Field); 4] = [
        ("texts of a batch", |sizes| &mut sizes.batch),
        ("tokens of a text", |sizes| &mut sizes.tokens),
        ("vocabulary", |sizes| &mut sizes.vocabulary),
        ("hidden size", |sizes| &mut sizes.hidden),
    ];
    let mut all = Vec::new();
    for (axis, field) in axes {
        let mut points = Vec::new();
        for factor in FACTORS {
            let mut sizes = BASE;
            let size = field(&mut sizes);
            *size = (*size as f64 * factor) as usize;
            let size = *size;
            progress(&format!("{axis}: {size}"));
            points.push(step(device, sizes, size, budget)?);
        }
        let exponent = |value: &dyn Fn(&Point) -> f64| {
            slope(points.iter().map(|point| ((point.size as f64).ln(), value(point).ln())))
        };
        let time_exponent = exponent(&|point| point.milliseconds);
        let memory_exponent = exponent(&|point| point.planned_bytes as f64);
        all.push(Growth { axis, points, time_exponent, memory_exponent });
    }
    Ok(all)
}

fn step(
    device: &mut dyn Device,
    sizes: Sizes,
    size: usize,
    budget: Duration,
) -> Result<Point, Error> {
    let model = model(sizes);
    let Input::Tokens(tokens) = &model.input else { unreachable!("an encoder reads tokens") };
    let shape = BatchShape { rows: sizes.batch, length: sizes.tokens, guessed: 0 };
    let teacher = TeacherInput::model(&model);
    let optimizer = OptimizerConfig {
        rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        weight_decay: 0.01,
        clip: Some(1.0),
        max_norm: None,
    };
    let plan = training_plan(&model, teacher, shape, optimizer)?;
    let planned_bytes = plan.own_bytes();
    let layouts = [student_layout(&model, teacher)?, Layout::new(model.model().parameters())?];
    let before = device.stats().bytes;
    let mut session = Session::new(device, plan, layouts)?;
    session.initialise(1)?;
    let device_bytes = session.device.stats().bytes - before;

    let count = sizes.batch * sizes.tokens;
    let (ids, types) = (random_labels(count, sizes.vocabulary, 1), vec![0; count]);
    let text = |row: usize| {
        let range = row * sizes.tokens..(row + 1) * sizes.tokens;
        (&ids[range.clone()], &types[range])
    };
    let mut batch = HostBatch::default();
    batch.texts(tokens, shape, &(0..sizes.batch).map(text).collect::<Vec<_>>());
    let masked = model.input.labels(shape);
    let place = |at: usize| (at * count / masked, ids[at * count / masked]);
    batch.masked(masked, &(0..masked).map(place).collect::<Vec<_>>());
    let scale = 1.0 / masked as f32;
    let state = StepState {
        temperature: 2.0,
        alpha: 0.5,
        soft_scale: scale,
        hard_scale: scale,
        learning_rate: 1e-4,
        ..StepState::default()
    };
    let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
    let program = session.program;
    let seconds = seconds(session.device, budget, |device| device.run(program, &state, &inputs))?;
    Ok(Point { size, milliseconds: seconds * 1e3, planned_bytes, device_bytes })
}

fn model(sizes: Sizes) -> ModelConfig {
    let encoder = Encoder {
        vocab_size: sizes.vocabulary,
        hidden_size: sizes.hidden,
        num_hidden_layers: 2,
        num_attention_heads: sizes.hidden / HEAD_DIM,
        intermediate_size: 4 * sizes.hidden,
        max_position_embeddings: sizes.tokens,
        classifier_dropout: 0.0,
        head: Head::MaskedLanguage,
        ..Encoder::default()
    };
    ModelConfig::of_encoder(encoder, Vec::new())
}

/// The slope of the least-squares line through some points.
fn slope(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<(f64, f64)> = points.collect();
    let mean =
        |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(&|point| point.0), mean(&|point| point.1));
    let product = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>();
    product / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;

    #[test]
    fn a_power_is_found() {
        let points = [1.0_f64, 2.0, 4.0, 8.0].map(|x| (x.ln(), (3.0 * x.powf(1.5)).ln()));
        assert!((slope(points.into_iter()) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn a_step_holds_what_was_planned_and_no_more_than_logits_chunk_by_chunk() {
        let small = Sizes { batch: 2, tokens: 16, vocabulary: 512, hidden: 32 };
        let mut device = CpuDevice::<f32>::new();
        let mut of = |sizes| step(&mut device, sizes, 1, Duration::ZERO).unwrap();
        let (one, wide) = (of(small), of(Sizes { hidden: 64, ..small }));
        assert!(one.milliseconds > 0.0);
        let parameters = Layout::new(model(small).model().parameters()).unwrap();
        let stored: u64 = parameters.segments.iter().map(|segment| segment.bytes()).sum();
        // Student, gradients, two moments, teacher; and sums of the metrics.
        let beside = one.device_bytes - one.planned_bytes - 5 * stored;
        assert!(beside < 1024, "{one:?}, {stored}");
        assert!(wide.planned_bytes > one.planned_bytes);
    }
}
