//! Gradients of what layers of newer families are made of, against central differences in f64: masks and biases of
//! attention, positions, gates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::ops::AttentionConfig;
use distil_gpu_engine::graph::{Graph, TensorId};
use distil_gpu_engine::nn;
use distil_gpu_kernels::DType;
use distil_gpu_kernels::attention::packed_ranges;
use distil_gpu_kernels::gather::sorted_order;
use distil_gpu_kernels::glu::Gate;
use distil_gpu_tests::slopes::{check, check_with, weigh};

#[test]
fn attention_with_windows_and_biases() {
    let shape = [3, 5, 4];
    let lengths = [("lengths", HostTensor::I32(&[5, 0, 2]))];
    for (causal, window, biases, dropout) in [
        (false, Some(1), None, 0.0),
        (true, Some(2), None, 0.3),
        (false, None, Some(1), 0.0),
        (false, None, Some(3), 0.3),
        (false, Some(2), Some(1), 0.4),
        (true, Some(2), Some(3), 0.0),
    ] {
        let config =
            AttentionConfig { causal, window, dropout, stream: 4, ..AttentionConfig::new(2, 1.3) };
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let lengths = graph.input("lengths", &[3], DType::I32);
            match p.get(3) {
                Some(&bias) => graph.attention_with_bias([p[0], p[1], p[2]], lengths, bias, config),
                None => graph.attention(p[0], p[1], p[2], lengths, config),
            }
        };
        let bias = biases.map(|examples| [examples, 2, 5, 5]);
        let mut shapes: Vec<&[usize]> = vec![&shape; 3];
        shapes.extend(bias.iter().map(|bias| &bias[..]));
        check_with(&format!("{config:?}, {bias:?}"), &shapes, &lengths, op, weigh);
    }
}

#[test]
fn attention_in_ranges_and_shared_heads() {
    for (texts, window, [heads, kv_heads], dropout) in
        [(&[5][..], 9, [2, 2], 0.0), (&[2, 3], 9, [4, 2], 0.3), (&[1, 4], 2, [3, 1], 0.0)]
    {
        let [queries, keys] = packed_ranges(texts, window).map(|ranges| ranges.repeat(2));
        let inputs = [("queries", HostTensor::I32(&queries)), ("keys", HostTensor::I32(&keys))];
        let config =
            AttentionConfig { kv_heads, dropout, stream: 4, ..AttentionConfig::new(heads, 0.9) };
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let ranges = ["queries", "keys"].map(|name| graph.input(name, &[2, 5, 2], DType::I32));
            let [cos, sin] = graph.rotary_angles(5, 2, 10.0)?;
            let q = graph.rotary(p[0], cos, sin, heads)?;
            graph.attention_in_ranges([q, p[1], p[2]], ranges, config)
        };
        let [wide, narrow] = [heads, kv_heads].map(|heads| [2, 5, 2 * heads]);
        check_with(&format!("{config:?}"), &[&wide, &narrow, &narrow], &inputs, op, weigh);
    }
}

#[test]
fn norms_by_root_mean_square() {
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let x = graph.rms_norm(p[0], p[1], 1e-3)?;
        let wide = graph.matmul(x, p[2], false, true)?;
        graph.rms_norm(wide, p[3], 1e-6)
    };
    check("rms norm", &[&[2, 3, 4], &[4], &[6, 4], &[6]], op);
}

#[test]
fn a_bias_that_serves_two_layers() {
    let lengths = [("lengths", HostTensor::I32(&[4, 3]))];
    let config = AttentionConfig::new(2, 0.7);
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let lengths = graph.input("lengths", &[2], DType::I32);
        let first = graph.attention_with_bias([p[0], p[0], p[0]], lengths, p[1], config)?;
        graph.attention_with_bias([first, p[0], first], lengths, p[1], config)
    };
    check_with("two layers, one bias", &[&[2, 4, 6], &[1, 2, 4, 4]], &lengths, op, weigh);
}

#[test]
fn rotary_of_whole_heads_and_of_parts() {
    for (heads, rotated) in [(1, 6), (2, 2), (1, 4), (3, 2)] {
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let [cos, sin] = graph.rotary_angles(5, rotated, 50.0)?;
            graph.rotary(p[0], cos, sin, heads)
        };
        check(&format!("rotary {heads} {rotated}"), &[&[2, 4, 6]], op);
    }
    // Where the keys are turned as the queries are, scores depend on how far apart they are.
    let lengths = [("lengths", HostTensor::I32(&[4, 3]))];
    let config = AttentionConfig { window: Some(2), ..AttentionConfig::new(2, 0.7) };
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let lengths = graph.input("lengths", &[2], DType::I32);
        let [cos, sin] = graph.rotary_angles(4, 4, 10.0)?;
        let q = graph.rotary(p[0], cos, sin, 2)?;
        let k = graph.rotary(p[1], cos, sin, 2)?;
        graph.attention(q, k, p[0], lengths, config)
    };
    check_with("attention", &[&[2, 4, 8], &[2, 4, 8]], &lengths, op, weigh);
}

#[test]
fn relative_positions() {
    // Distances of up to two have buckets of their own, and the others share.
    let op = |graph: &mut Graph, p: &[TensorId]| nn::relative_bias(graph, p[0], 5, 6);
    check("a table of buckets", &[&[8, 2]], op);
    for (content, position) in [(true, true), (true, false), (false, true)] {
        for (length, buckets, max) in [(4, 0, 3), (4, 0, 8), (6, 4, 16)] {
            let span = nn::Span::new(length, buckets, max);
            let (states, rows) = ([2, length, 4], [span.rows, 4]);
            let op = |graph: &mut Graph, p: &[TensorId]| {
                let content = content.then_some([p[0], p[1]]);
                let position = position.then_some([p[p.len() - 2], p[p.len() - 1]]);
                nn::disentangled_bias(graph, content, position, (2, 0.4), &span)
            };
            let shapes: &[&[usize]] = &[&states, &rows, &states, &rows];
            let count = 2 * (usize::from(content) + usize::from(position));
            check(&format!("{content} {position}, {span:?}"), &shapes[..count], op);
        }
    }
    // All of a layer.
    let lengths = [("lengths", HostTensor::I32(&[4, 3]))];
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let span = nn::Span::new(4, 4, 16);
        let rows = span.rows_of(graph, p[1])?;
        let terms = Some([p[0], rows]);
        let scale = 1.0 / 6_f32.sqrt();
        let bias = nn::disentangled_bias(graph, terms, terms, (2, scale), &span)?;
        let lengths = graph.input("lengths", &[2], DType::I32);
        let config = AttentionConfig::new(2, scale);
        graph.attention_with_bias([p[0], p[0], p[0]], lengths, bias, config)
    };
    check_with("disentangled attention", &[&[2, 4, 4], &[8, 4]], &lengths, op, weigh);
}

#[test]
fn gated_units() {
    for gate in [Gate::Sigmoid, Gate::Gelu, Gate::GeluTanh, Gate::Silu, Gate::Relu] {
        for gate_last in [false, true] {
            let op = |graph: &mut Graph, p: &[TensorId]| graph.glu(p[0], gate, gate_last);
            check(&format!("{gate:?} {gate_last}"), &[&[2, 3, 6]], op);
        }
    }
    for gate in [Gate::Silu, Gate::GeluTanh] {
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let [gates, values] = [p[1], p[2]].map(|w| graph.matmul(p[0], w, false, true));
            let gated = graph.gated(gates?, values?, gate)?;
            graph.matmul(gated, p[1], false, false)
        };
        check(&format!("{gate:?} apart"), &[&[2, 3, 4], &[6, 4], &[6, 4]], op);
    }
    // Behind a product, as in a feed-forward layer.
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let wide = graph.matmul(p[0], p[1], false, true)?;
        let gated = graph.glu(wide, Gate::Silu, false)?;
        graph.matmul(gated, p[2], false, true)
    };
    check("SwiGLU", &[&[2, 3, 4], &[10, 4], &[4, 5]], op);
}

#[test]
fn columns_and_axes() {
    for parts in [2, 3, 4] {
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let split = graph.split_last(p[0], parts)?;
            let product = graph.mul(split[0], split[parts - 1])?;
            let mut others = vec![product];
            others.extend(&split[1..]);
            graph.join_last(&others)
        };
        check(&format!("{parts} parts"), &[&[2, 3, 12]], op);
    }
    // Parts that nothing is made of.
    check("a part", &[&[3, 8]], |graph, p| Ok(graph.split_last(p[0], 4)?[2]));
    for axes in [&[0, 1][..], &[1, 0], &[2, 0, 1], &[0, 2, 1], &[0, 2, 1, 3], &[3, 1, 2, 0]] {
        let shape = &[2, 3, 4, 2][..axes.len()];
        check(&format!("{axes:?}"), &[shape], |graph, p| graph.permute(p[0], axes));
        let ones = &[3, 1, 2, 1][..axes.len()];
        check(&format!("{axes:?} of ones"), &[ones], |graph, p| graph.permute(p[0], axes));
    }
}

#[test]
fn constants_are_what_they_were() {
    let factors: Vec<f32> = (0..12).map(|i| 0.3 * i as f32 - 1.0).collect();
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let factors = graph.constant_f32("factors", &[3, 4], &factors)?;
        let ids = graph.constant_i32("ids", &[5], &[2, 0, 2, -1, 1])?;
        let order = graph.constant_i32("order", &[5], &sorted_order(&[2, 0, 2, -1, 1]))?;
        let product = graph.mul(p[0], factors)?;
        graph.gather(product, ids, order)
    };
    check("constants", &[&[3, 4]], op);
    let mut graph = Graph::default();
    assert!(graph.constant_f32("few", &[3], &[1.0]).is_err());
    let one = graph.constant_i32("a", &[2], &[1, 2]).unwrap();
    assert_eq!(graph.constant_i32("a", &[2], &[1, 2]).unwrap(), one);
    assert_ne!(graph.constant_i32("a", &[2], &[1, 3]).unwrap(), one);
    assert_ne!(graph.constant_i32("a", &[1, 2], &[1, 2]).unwrap(), one);
}
