//! Attention of several families against transformers: windows, biases, rotary and relative positions, gated units; see
//! tests/fixtures/README.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::graph::ops::AttentionConfig;
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::nn;
use distil_gpu_engine::plan::Options;
use distil_gpu_kernels::DType;
use distil_gpu_kernels::glu::Gate;
use distil_gpu_tests::{
    Fixtures, assert_close, devices, graph_of, narrow, oracle, session, some_state,
};

/// transformers rounds to f32 on the way, whatever its inputs.
const LIMIT: f64 = 1e-11;
const HEADS: usize = 2;
const HEAD_DIM: usize = 12;
const LENGTH: usize = 9;

fn config(scale: f32) -> AttentionConfig {
    AttentionConfig::new(HEADS, scale)
}

/// Holds output and gradients of a family's attention to the file's, on every device.
fn hold(
    name: &str,
    parts: &[&str],
    op: impl Fn(&mut Graph, &[TensorId], TensorId) -> Result<TensorId, distil_gpu_engine::Error>,
) {
    let file = Fixtures::open("attention.safetensors");
    let key = |part: &str| format!("{name}.{part}");
    let shapes: Vec<Vec<usize>> =
        parts.iter().map(|part| file.shape(&key(part)).unwrap()).collect();
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    let (mut graph, parameters) = graph_of(&shapes);
    let lengths = graph.input("lengths", &[2], DType::I32);
    let weights = graph.input("weights", &file.shape(&key("weights")).unwrap(), DType::F32);
    let out = op(&mut graph, &parameters, lengths).unwrap();
    graph.output("out", out);
    let loss = graph.mul(out, weights).unwrap();
    for (part, gradient) in
        parts.iter().zip(differentiate(&mut graph, &[loss], &parameters).unwrap())
    {
        graph.output(part, gradient);
    }

    let lengths = file.integers("lengths");
    let weights = narrow(&file.floats(&key("weights")));
    // What padding makes of itself is nobody's.
    let real = |at: usize| {
        let row = at / (HEADS * HEAD_DIM);
        row % LENGTH < lengths[row / LENGTH] as usize
    };
    let starts: Vec<Vec<f64>> = parts.iter().map(|part| file.floats(&key(part))).collect();
    let found = |device: &mut dyn Device| {
        let what = device.info().name.clone();
        let mut session = session(device, &graph, Options::default());
        session.set_all(0, &starts).unwrap();
        let inputs =
            [("lengths", HostTensor::I32(&lengths)), ("weights", HostTensor::F32(&weights))];
        session.run(&some_state(), &inputs).unwrap();
        let mut out = session.output("out").unwrap();
        (0..out.len()).filter(|&at| !real(at)).for_each(|at| out[at] = 0.0);
        assert_close(&format!("{name} on {what}"), &out, &file.floats(&key("out")), LIMIT);
        for part in parts {
            let expected = file.floats(&key(&format!("grad.{part}")));
            let gradient = session.output(part).unwrap();
            assert_close(&format!("{name}, {part} on {what}"), &gradient, &expected, LIMIT);
        }
    };
    found(&mut oracle());
    devices().iter_mut().for_each(|device| found(&mut **device));
}

#[test]
fn modernbert_has_windows_and_rotary_positions() {
    hold("modernbert", &["qkv"], |graph, p, lengths| {
        let parts = graph.split_last(p[0], 3)?;
        let [cos, sin] = graph.rotary_angles(LENGTH, HEAD_DIM, 100.0)?;
        let q = graph.rotary(parts[0], cos, sin, HEADS)?;
        let k = graph.rotary(parts[1], cos, sin, HEADS)?;
        // `local_attention` is 5: two tokens on either side.
        let config = config((HEAD_DIM as f32).sqrt().recip());
        let config = AttentionConfig { window: Some(5 / 2), ..config };
        graph.attention(q, k, parts[2], lengths, config)
    });
}

#[test]
fn rotary_turns_halves() {
    let file = Fixtures::open("attention.safetensors");
    let qkv = file.floats("modernbert.qkv");
    let width = HEADS * HEAD_DIM;
    let queries: Vec<f64> = qkv.chunks(3 * width).flat_map(|row| &row[..width]).copied().collect();
    for device in &mut devices() {
        let (mut graph, parameters) = graph_of(&[&[2, LENGTH, width]]);
        let [cos, sin] = graph.rotary_angles(LENGTH + 3, HEAD_DIM, 100.0).unwrap();
        let turned = graph.rotary(parameters[0], cos, sin, HEADS).unwrap();
        graph.output("turned", turned);
        let what = format!("rotary on {}", device.info().name);
        let mut session = session(&mut **device, &graph, Options::default());
        session.set_all(0, std::slice::from_ref(&queries)).unwrap();
        session.run(&some_state(), &[]).unwrap();
        let found = session.output("turned").unwrap();
        assert_close(&what, &found, &file.floats("modernbert_rotary"), LIMIT);
    }
}

#[test]
fn a_causal_window_is_mistrals() {
    let file = Fixtures::open("attention.safetensors");
    let seen = file.integers("mistral_mask");
    // All scores are 0, and each value tells its key.
    let ones: Vec<f64> =
        (0..LENGTH * LENGTH).map(|at| f64::from(u8::from(at / LENGTH == at % LENGTH))).collect();
    let expected: Vec<f64> = seen
        .chunks(LENGTH)
        .flat_map(|row| row.iter().map(|&one| f64::from(one) / f64::from(row.iter().sum::<i32>())))
        .collect();
    let (mut graph, p) = graph_of(&[&[1, LENGTH, LENGTH], &[1, LENGTH, LENGTH]]);
    let lengths = graph.input("lengths", &[1], DType::I32);
    let config = AttentionConfig { causal: true, window: Some(3), ..AttentionConfig::new(1, 1.0) };
    let out = graph.attention(p[0], p[0], p[1], lengths, config).unwrap();
    graph.output("out", out);
    let mut device = oracle();
    let mut session = session(&mut device, &graph, Options::default());
    session.set_all(0, &[vec![0.0; LENGTH * LENGTH], ones]).unwrap();
    session.run(&some_state(), &[("lengths", HostTensor::I32(&[LENGTH as i32]))]).unwrap();
    assert_close("seen keys", &session.output("out").unwrap(), &expected, 1e-30);
}

#[test]
fn mpnet_has_a_table_of_relative_positions() {
    hold("mpnet", &["q", "k", "v", "table"], |graph, p, lengths| {
        let bias = nn::relative_bias(graph, p[3], LENGTH, 128)?;
        let config = config((HEAD_DIM as f32).sqrt().recip());
        graph.attention_with_bias([p[0], p[1], p[2]], lengths, bias, config)
    });
}

#[test]
fn deberta_has_disentangled_terms() {
    hold("deberta", &["q", "k", "v", "pos_keys", "pos_queries"], |graph, p, lengths| {
        let span = nn::Span::new(LENGTH, 4, 16);
        let keys = span.rows_of(graph, p[3])?;
        let queries = span.rows_of(graph, p[4])?;
        let scale = (3.0 * HEAD_DIM as f32).sqrt().recip();
        let (content, position) = (Some([p[0], keys]), Some([p[1], queries]));
        let bias = nn::disentangled_bias(graph, content, position, (HEADS, scale), &span)?;
        graph.attention_with_bias([p[0], p[1], p[2]], lengths, bias, config(scale))
    });
}

#[test]
fn buckets_are_those_of_transformers() {
    let file = Fixtures::open("attention.safetensors");
    let settings = |of: &str| {
        let settings = file.integers(&format!("{of}.settings"));
        [settings[0] as usize, settings[1] as usize]
    };
    for case in 0..4 {
        let of = format!("t5_buckets.{case}");
        let [buckets, most] = settings(&of);
        let expected = file.integers(&of);
        let last = (expected.len() / 2) as isize;
        for (distance, expected) in (-last..=last).zip(expected) {
            let found = nn::t5_bucket(distance, buckets, most);
            assert_eq!(found as i32, expected, "{buckets} {most} {distance}");
        }
        let of = format!("log_buckets.{case}");
        let [buckets, most] = settings(&of);
        for (distance, expected) in (-last..=last).zip(file.integers(&of)) {
            let found = nn::log_bucket(distance, buckets, most);
            assert_eq!(found as i32, expected, "{buckets} {most} {distance}");
        }
    }
}

#[test]
fn gates_are_pytorchs() {
    let file = Fixtures::open("attention.safetensors");
    for (name, gate, gate_last) in [
        ("glu.sigmoid_last", Gate::Sigmoid, true),
        ("glu.gelu", Gate::Gelu, false),
        ("glu.gelu_tanh", Gate::GeluTanh, false),
        ("glu.silu", Gate::Silu, false),
        ("glu.relu", Gate::Relu, false),
    ] {
        let shape = file.shape("glu.x").unwrap();
        let (mut graph, p) = graph_of(&[&shape]);
        let out = graph.glu(p[0], gate, gate_last).unwrap();
        graph.output("out", out);
        let mut device = oracle();
        let mut session = session(&mut device, &graph, Options::default());
        session.set_all(0, &[file.floats("glu.x")]).unwrap();
        session.run(&some_state(), &[]).unwrap();
        assert_close(name, &session.output("out").unwrap(), &file.floats(name), 1e-28);
    }
}
