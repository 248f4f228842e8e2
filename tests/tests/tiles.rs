//! Tensors beyond what a device binds, or holds in one buffer: the same results as on the same device with its own
//! limits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use distil_gpu_engine::device::{Device, GpuDevice, GpuOptions, HostTensor, Limits, adapters};
use distil_gpu_engine::graph::differentiate;
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::models::{self, Architecture, BatchShape, HostBatch, Input, ModelConfig};
use distil_gpu_engine::objective::{TeacherInput, step_plan};
use distil_gpu_engine::plan::Options;
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Layout, Part};
use distil_gpu_kernels::gather::sorted_order;
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::{DType, StepState};
use distil_gpu_tests::{
    assert_close, graph_of, is_slow, random, random_labels, session, some_state,
};

/// Tokens: neither a multiple of a tile's rows nor of four.
const VOCAB: usize = 3001;
/// A table of 24 columns, 288 kB, has tiles of 1,344 rows.
const LIMITS: Limits = Limits { buffer_bytes: 1 << 30, binding_bytes: 128 << 10 };

/// Every GPU with its own limits and with these, but slow ones.
fn pairs(limits: Limits) -> Vec<[GpuDevice; 2]> {
    let all = adapters();
    assert!(!all.is_empty(), "no GPU driver: run the tests through tests/run.sh");
    let open = |limits| GpuOptions { limits, ..GpuOptions::default() };
    let pair = |adapter| [None, Some(limits)].map(|l| GpuDevice::new(adapter, open(l)).unwrap());
    all.iter().map(pair).filter(|[gpu, _]| !is_slow(gpu)).collect()
}

fn optimizer(rule: Rule) -> OptimizerConfig {
    OptimizerConfig { rule, weight_decay: 0.01, clip: Some(0.5), max_norm: None }
}

/// Rows of a table of several tiles, their gradient, and the update by it, in one buffer and in several.
#[test]
fn an_embedding_in_tiles_is_one_embedding() {
    const COLS: usize = 40;
    const ROWS: usize = 300;
    let shapes: [&[usize]; 1] = [&[VOCAB, COLS]];
    let (mut graph, p) = graph_of(&shapes);
    let ids = graph.input("ids", &[ROWS], DType::I32);
    let order = graph.input("order", &[ROWS], DType::I32);
    let rows = graph.gather(p[0], ids, order).unwrap();
    let squares = graph.mul(rows, rows).unwrap();
    let gradients = differentiate(&mut graph, &[squares], &p).unwrap();
    let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-6 };
    graph.optimize(0, &gradients, optimizer(rule)).unwrap();
    graph.output("rows", rows);
    let mut ids = random_labels(ROWS, VOCAB + 3, 3);
    (ids[0], ids[1], ids[2], ids[3]) = (-1, 0, VOCAB as i32 - 1, i32::MIN);
    let order = sorted_order(&ids);
    let run = |device: &mut dyn Device| {
        let mut session = session(device, &graph, Options::default());
        session.set(0, 0, &random(VOCAB * COLS, 1)).unwrap();
        let inputs = [("ids", HostTensor::I32(&ids)), ("order", HostTensor::I32(&order))];
        let mut found = Vec::new();
        for _ in 0..2 {
            session.run(&some_state(), &inputs).unwrap();
            found.push(session.output("rows").unwrap());
        }
        for part in [Part::Parameters, Part::Gradients, Part::Moment1, Part::Moment2] {
            found.push(session.part(0, part, 0).unwrap());
        }
        let plan = session.plan.tiled(session.device.limits()).unwrap();
        (found, plan.tensors.len(), plan.plan.calls.len())
    };
    for buffer_bytes in [1 << 30, 128 << 10] {
        for [mut gpu, mut small] in pairs(Limits { buffer_bytes, ..LIMITS }) {
            let (whole, none, calls) = run(&mut gpu);
            let (found, tiled, more) = run(&mut small);
            // Table, gradients and both moments.
            assert_eq!((none, tiled), (0, 4));
            // Gather, its gradient, norm and update in tiles of 768 rows, or as many elements.
            assert_eq!(more, calls + 4 * 3);
            for (index, (found, whole)) in found.iter().zip(&whole).enumerate() {
                assert_close(&format!("{index}, buffers of {buffer_bytes}"), found, whole, 1e-12);
            }
        }
    }
}

/// A masked language model whose table of tokens is far beyond the limit.
fn model(name: &str) -> ModelConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let (mut config, _) = models::load(&folder).unwrap();
    let Architecture::Encoder(encoder) = &mut config.architecture else { panic!("an encoder") };
    encoder.vocab_size = VOCAB;
    (encoder.hidden_dropout, encoder.attention_dropout) = (0.0, 0.0);
    let Input::Tokens(input) = &mut config.input else { panic!("it reads tokens") };
    input.vocab_size = VOCAB;
    config
}

fn layout(config: &ModelConfig) -> Layout {
    Layout::new(config.model().parameters()).unwrap()
}

const SHAPE: BatchShape = BatchShape { rows: 3, length: 12, guessed: 0 };

/// Texts of made-up tokens, some masked.
fn batch(config: &ModelConfig) -> HostBatch {
    let Input::Tokens(input) = &config.input else { panic!("it reads tokens") };
    let tokens = random_labels(SHAPE.rows * SHAPE.length, VOCAB, 5);
    let types = [0; SHAPE.length];
    let row = |(row, tokens): (usize, &[i32])| tokens[..SHAPE.length - row].to_vec();
    let texts: Vec<Vec<i32>> = tokens.chunks(SHAPE.length).enumerate().map(row).collect();
    let rows: Vec<_> = texts.iter().map(|text| (&text[..], &types[..text.len()])).collect();
    let mut batch = HostBatch::default();
    batch.texts(input, SHAPE, &rows);
    batch.masked(config.input.labels(SHAPE), &[(1, 2999), (5, 0), (15, 1536), (30, 7)]);
    batch
}

/// Steps of distillation: embedding, decoder, their tied gradient, norm and update, the teacher's as well.
#[test]
fn a_masked_language_model_in_tiles_trains_alike() {
    let (student, teacher) = (model("distilbert-mlm"), model("bert-mlm-teacher"));
    let taught = TeacherInput::model(&teacher);
    let batch = batch(&student);
    let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
    let config = optimizer(Rule::Sgd { momentum: 0.9, nesterov: false });
    let state = StepState {
        learning_rate: 0.5,
        temperature: 2.0,
        alpha: 0.5,
        soft_scale: 0.25,
        hard_scale: 0.25,
        token_scale: 0.1,
        ..StepState::default()
    };
    let table = layout(&student).parameters.iter().position(|spec| spec.shape[0] == VOCAB).unwrap();
    // In one step, or with gradients that add up over several batches, which need memory of their own before.
    for accumulates in [false, true] {
        let run = |device: &mut dyn Device| {
            let plan = step_plan(&student, taught, SHAPE, &config.into(), accumulates).unwrap();
            let layouts = [layout(&student), layout(&teacher)];
            let mut session = Session::new(device, plan, layouts).unwrap();
            session.initialise(3).unwrap();
            (0..2).for_each(|_| session.run(&state, &inputs).unwrap());
            let count = session.stores[0].layout.parameters.len();
            let mut found = Vec::new();
            for part in [Part::Parameters, Part::Gradients] {
                let all = (0..count).map(|index| session.part(0, part, index).unwrap());
                found.push((part, all.collect::<Vec<_>>()));
            }
            (found, session.plan.tiled(session.device.limits()).unwrap().tensors)
        };
        for [mut gpu, mut small] in pairs(LIMITS) {
            let ((whole, none), (found, tiled)) = (run(&mut gpu), run(&mut small));
            assert!(none.is_empty() && tiled.len() >= 3, "{none:?} {tiled:?}");
            for ((part, found), (_, whole)) in found.iter().zip(&whole) {
                let what = format!("{part:?}, {accumulates}");
                assert_close(&format!("{what}: the table"), &found[table], &whole[table], 1e-11);
                // Some gradients are 0 but for rounding, as those of the keys' biases: all together.
                assert_close(&what, &found.concat(), &whole.concat(), 1e-11);
            }
        }
    }
}
