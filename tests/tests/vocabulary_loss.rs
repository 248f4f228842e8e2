//! The loss of a language model's head in chunks, against the same loss of logits that exist whole.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::graph::ops::{Decoder, LossTerms};
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::plan::{Options, Plan};
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING};
use distil_gpu_kernels::{DType, Divergence};
use distil_gpu_tests::{
    assert_close, devices, graph_of, narrow, oracle, random, session, some_state, values_of,
};

const ROWS: usize = 150;
const VOCAB: usize = 203;
const HIDDEN: usize = 12;
const TEACHER_HIDDEN: usize = 20;
const SHAPES: [&[usize]; 3] = [&[ROWS, HIDDEN], &[VOCAB, HIDDEN], &[VOCAB]];
const NAMES: [&str; 5] = ["row losses", "terms", "d hidden", "d weight", "d bias"];

/// What a loss is made of.
#[derive(Clone, Copy, Debug)]
struct Setting {
    teacher: bool,
    /// Whether the rows' losses have factors.
    weighed: bool,
    /// Whether their hard terms have weights, labels are smoothed and logits standardised.
    weights: bool,
    divergence: Divergence,
}

const PLAIN: Setting =
    Setting { teacher: true, weighed: false, weights: false, divergence: Divergence::ForwardKl };

/// Losses, terms and gradients; the logits whole, or in chunks.
fn graph(chunk: Option<usize>, setting: Setting) -> Graph {
    let Setting { teacher, weighed, weights, divergence } = setting;
    let (mut graph, p) = graph_of(&SHAPES);
    let labels = graph.input("labels", &[ROWS], DType::I32);
    let theirs = teacher.then(|| {
        let mut input = |name: &str, shape: &[usize]| graph.input(name, shape, DType::F32);
        Decoder {
            hidden: input("t0", &[ROWS, TEACHER_HIDDEN]),
            weight: input("t1", &[VOCAB, TEACHER_HIDDEN]),
            bias: input("t2", &[VOCAB]),
        }
    });
    let ours = Decoder { hidden: p[0], weight: p[1], bias: p[2] };
    let logits = |graph: &mut Graph, decoder: Decoder| -> TensorId {
        let product = graph.matmul(decoder.hidden, decoder.weight, false, true).unwrap();
        graph.plus(product, decoder.bias).unwrap()
    };
    let weights = weights.then(|| graph.input("weights", &[ROWS], DType::F32));
    let standardise = weights.is_some();
    let smoothing = if standardise { 0.1 } else { 0.0 };
    let terms = LossTerms { divergence, weights, standardise, smoothing };
    let (loss, terms) = match chunk {
        Some(chunk) => graph.vocabulary_loss_of(ours, labels, theirs, chunk, terms).unwrap(),
        None => {
            let ours = logits(&mut graph, ours);
            let theirs = theirs.map(|theirs| logits(&mut graph, theirs));
            graph.distill_loss_of(ours, labels, theirs, VOCAB, terms).unwrap()
        }
    };
    let mut summed = loss;
    if weighed {
        let factors = graph.input("factors", &[ROWS], DType::F32);
        summed = graph.mul(loss, factors).unwrap();
    }
    let gradients = differentiate(&mut graph, &[summed], &p).unwrap();
    for (name, id) in NAMES.iter().zip([loss, terms].into_iter().chain(gradients)) {
        graph.output(name, id);
    }
    graph
}

fn run(device: &mut dyn Device, graph: &Graph) -> Vec<Vec<f64>> {
    let mut labels: Vec<i32> = (0..ROWS as i32).map(|row| row * 7 % VOCAB as i32).collect();
    (labels[3], labels[100], labels[149]) = (IGNORED, PADDING, PADDING);
    let lens = [ROWS * TEACHER_HIDDEN, VOCAB * TEACHER_HIDDEN, VOCAB, ROWS, ROWS];
    let values: Vec<Vec<f32>> = (0..).zip(lens).map(|(i, n)| narrow(&random(n, 30 + i))).collect();
    let mut session = session(device, graph, Options::default());
    session.set_all(0, &values_of(&SHAPES)).unwrap();
    let known = ["t0", "t1", "t2", "factors", "weights"];
    let mut inputs = vec![("labels", HostTensor::I32(&labels))];
    inputs.extend(known.into_iter().zip(&values).map(|(name, v)| (name, HostTensor::F32(v))));
    inputs.retain(|(name, _)| session.plan.input(name).is_some());
    session.run(&some_state(), &inputs).unwrap();
    NAMES.iter().map(|name| session.output(name).unwrap()).collect()
}

#[test]
fn every_chunk_size_gives_what_whole_logits_give() {
    let reverse = Setting { divergence: Divergence::ReverseKl, ..PLAIN };
    let alone = Setting { teacher: false, ..PLAIN };
    let others = Divergence::each().map(|divergence| Setting { divergence, ..PLAIN });
    let settings = [
        alone,
        Setting { weighed: true, ..PLAIN },
        Setting { weighed: true, ..alone },
        Setting { weighed: true, weights: true, ..reverse },
        Setting { weights: true, ..reverse },
        Setting { weighed: true, weights: true, ..alone },
    ];
    for setting in settings.into_iter().chain(others) {
        let whole = run(&mut oracle(), &graph(None, setting));
        for chunk in [64, 128, ROWS] {
            let graph = graph(Some(chunk), setting);
            let found = run(&mut oracle(), &graph);
            for ((name, found), whole) in NAMES.iter().zip(&found).zip(&whole) {
                let what = format!("{name}: chunks of {chunk}, {setting:?}");
                assert_close(&what, found, whole, 1e-28);
            }
            if chunk != 64 || !setting.teacher {
                continue;
            }
            for device in &mut devices() {
                let found = run(&mut **device, &graph);
                let on = device.info().name.clone();
                for ((name, found), whole) in NAMES.iter().zip(&found).zip(&whole) {
                    let what = format!("{name}: chunks of {chunk}, {setting:?} on {on}");
                    assert_close(&what, found, whole, 1e-11);
                }
            }
        }
    }
}

/// No buffer is as large as all logits of either model, and the plan's own memory grows with the chunk alone.
#[test]
fn logits_never_exist_whole() {
    let own = |chunk| Plan::compile(&graph(Some(chunk), PLAIN), Options::default()).unwrap();
    let plans = [64, 128].map(own);
    for (plan, chunk) in plans.iter().zip([64, 128]) {
        let logits = plan.buffers.iter().filter(|buffer| buffer.len == chunk * VOCAB).count();
        let largest = plan.buffers.iter().map(|buffer| buffer.len).max().unwrap();
        assert_eq!((logits, largest), (2, chunk * VOCAB));
    }
    let [few, many] = plans.map(|plan| plan.own_bytes());
    assert_eq!(many - few, 2 * 64 * VOCAB as u64 * 4);
}
