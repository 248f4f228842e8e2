//! A transformer encoder of MiniLM-L6's sizes, 32 texts of 64 tokens: a fine-tuning step (forward, backward, AdamW,
//! dropout on), a forward pass, and the kernels that take most of both beside the matrix products.
//! `tools/bench_encoder_pytorch.py` times the same in PyTorch.
//!
//! The model is the one in `data/cache/minilm` where `data/fetch-text.sh` put it, else a random one alike.

#![allow(missing_docs)]

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distil_gpu_benches::{devices, plan_of};
use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::kernels::attention::Attention;
use distil_gpu_engine::kernels::chain::{Binary, Chain, Stage};
use distil_gpu_engine::kernels::elementwise::Elementwise;
use distil_gpu_engine::kernels::layer_norm::{LayerNorm, LayerNormBackward};
use distil_gpu_engine::kernels::optimizer::{Factor, Optimizer, Rule};
use distil_gpu_engine::kernels::{Access, DType, StepState};
use distil_gpu_engine::models::{
    Architecture, BatchShape, Encoder, Head, HostBatch, Input, ModelConfig, load_start,
};
use distil_gpu_engine::objective::{TeacherInput, forward_plan, training_plan};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::Layout;

const ROWS: usize = 32;
const LENGTH: usize = 64;
const TOKENS: usize = ROWS * LENGTH;
const HIDDEN: usize = 384;
const WIDE: usize = 1536;
const HEADS: usize = 12;
const CLASSES: usize = 2;
const PARAMETERS: usize = 22_713_986;
const RULE: Rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

/// The model and its weights, as far as there are any.
fn model() -> (ModelConfig, Vec<Option<Vec<f32>>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/cache/minilm");
    if folder.is_dir() {
        let (mut config, weights) =
            load_start(&folder, Head::Classes(CLASSES), false).expect("a model folder");
        if let Architecture::Encoder(encoder) = &mut config.architecture {
            encoder.head = Head::Classes(CLASSES);
        }
        config.class_names = (0..CLASSES).map(|class| class.to_string()).collect();
        return (config, weights);
    }
    let encoder = Encoder {
        vocab_size: 30_522,
        hidden_size: HIDDEN,
        num_hidden_layers: 6,
        num_attention_heads: HEADS,
        intermediate_size: WIDE,
        head: Head::Classes(CLASSES),
        ..Encoder::default()
    };
    let class_names = (0..CLASSES).map(|class| class.to_string()).collect();
    (ModelConfig::of_encoder(encoder, class_names), Vec::new())
}

fn batch(config: &ModelConfig) -> HostBatch {
    let Input::Tokens(input) = &config.input else { unreachable!("an encoder reads tokens") };
    let ids: Vec<i32> = (0..TOKENS).map(|i| (i * 7919 % input.vocab_size) as i32).collect();
    let types = [0; LENGTH];
    let rows: Vec<(&[i32], &[i32])> = ids.chunks(LENGTH).map(|ids| (ids, &types[..])).collect();
    let mut batch = HostBatch::default();
    batch.texts(input, BatchShape { rows: ROWS, length: LENGTH, guessed: 0 }, &rows);
    batch
}

fn session<'a>(
    device: &'a mut dyn Device,
    config: &ModelConfig,
    weights: &[Option<Vec<f32>>],
    plan: Plan,
) -> Session<'a> {
    let layout = Layout::new(config.model().parameters()).expect("the model fits");
    let mut session = Session::new(device, plan, [layout]).expect("room");
    session.initialise(1).expect("room");
    for (index, values) in weights.iter().enumerate() {
        let Some(values) = values else { continue };
        let values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        session.set(0, index, &values).expect("room");
    }
    session
}

fn encoder(c: &mut Criterion) {
    let (config, weights) = model();
    let batch = batch(&config);
    let shape = BatchShape { rows: ROWS, length: LENGTH, guessed: 0 };
    let optimizer = OptimizerConfig { rule: RULE, weight_decay: 0.01, clip: None, max_norm: None };
    let labels: Vec<i32> = (0..ROWS as i32).map(|i| i % CLASSES as i32).collect();
    for mut device in devices() {
        let device = &mut *device;
        let mut group = c.benchmark_group(format!("encoder on {}", device.info().name));
        group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));

        let plan = training_plan(&config, TeacherInput::None, shape, optimizer)
            .expect("the graph is sound");
        let mut training = session(device, &config, &weights, plan);
        let mut inputs: Vec<_> = batch.inputs().collect();
        inputs.push(("labels", HostTensor::I32(&labels)));
        let mut state = StepState {
            learning_rate: 2e-5,
            hard_scale: 1.0 / ROWS as f32,
            ..StepState::default()
        };
        group.bench_function("step", |bencher| {
            bencher.iter(|| {
                state.bias_correction1 = 1.0 - 0.9_f32.powi(state.step as i32 + 1);
                state.bias_correction2 = 1.0 - 0.999_f32.powi(state.step as i32 + 1);
                training.run(&state, &inputs).expect("a step");
                training.device.wait().expect("the device answers");
                state.step += 1;
            });
        });
        drop(training);

        let plan = forward_plan(&config, shape).expect("the graph is sound");
        let mut forward = session(device, &config, &weights, plan);
        let inputs: Vec<_> = batch.inputs().collect();
        group.bench_function("forward", |bencher| {
            bencher.iter(|| {
                forward.run(&StepState::default(), &inputs).expect("a pass");
                forward.output("logits").expect("the device answers")
            });
        });
        drop(forward);
        group.finish();
    }
}

fn kernels(c: &mut Criterion) {
    let gelu = |stage, operands: usize| Elementwise {
        extent: [1, 1, TOKENS as u32, WIDE as u32],
        main_strides: Some([0, 0, WIDE as u32, 1]),
        chain: Chain { stages: vec![stage], operands: vec![[0, 0, WIDE as u32, 1]; operands] },
    };
    let attention = |backward| Attention {
        dropout: 0.1,
        stream: 1,
        backward,
        ..Attention::new(
            [ROWS, LENGTH, HEADS, HIDDEN / HEADS],
            1.0 / ((HIDDEN / HEADS) as f32).sqrt(),
        )
    };
    let adamw = Optimizer {
        rule: RULE,
        len: PARAMETERS,
        lr_scale: 1.0,
        weight_decay: 0.01,
        factor: Factor::One,
    };
    let kernels: [(&str, Plan); 7] = [
        ("layer_norm", plan_of(LayerNorm::new(TOKENS, HIDDEN, 1e-12))),
        ("layer_norm backward", plan_of(LayerNormBackward::new(TOKENS, HIDDEN))),
        ("gelu", plan_of(gelu(Stage::GeluErf, 0))),
        ("gelu backward", plan_of(gelu(Stage::Binary(Binary::GeluErfGrad, 0), 1))),
        ("attention", plan_of(attention(false))),
        ("attention backward", plan_of(attention(true))),
        ("adamw", plan_of(adamw)),
    ];
    for mut device in devices() {
        let mut group = c.benchmark_group(format!("MiniLM kernels on {}", device.info().name));
        group.sample_size(10);
        for (name, plan) in &kernels {
            let program = device.load(plan, &|_| None).expect("the plan fits");
            // In -2 .. 2, but what a kernel divides by or takes the root of is not below zero.
            let spread = |i: usize| (i.wrapping_mul(2_654_435_761) % 8191) as f32 / 2048.0 - 2.0;
            let operands = plan.calls[0].kernel.operands();
            let values: Vec<(&str, DType, Vec<f32>)> = operands
                .iter()
                .filter(|operand| operand.access == Access::Read)
                .map(|operand| {
                    (operand.name, operand.dtype, (0..operand.len).map(spread).collect())
                })
                .collect();
            let lengths = [LENGTH as i32; ROWS];
            let inputs: Vec<(&str, HostTensor<'_>)> = values
                .iter()
                .map(|(name, dtype, values)| match dtype {
                    DType::I32 => (*name, HostTensor::I32(&lengths)),
                    _ => (*name, HostTensor::F32(values)),
                })
                .collect();
            let state = StepState { learning_rate: 1e-5, ..StepState::default() };
            device.run(program, &state, &inputs).expect("the first run");
            group.bench_function(*name, |bencher| {
                bencher.iter(|| {
                    device.run(program, &state, &[]).expect("a run");
                    device.wait().expect("the device answers");
                });
            });
            device.unload(program);
        }
        group.finish();
    }
}

criterion_group!(benches, encoder, kernels);
criterion_main!(benches);
