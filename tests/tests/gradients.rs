//! Gradients against central differences in f64.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::Error;
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::ops::{
    AttentionConfig, Decoder, FeatureLoss, LossTerms, RelationLoss,
};
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::nn::{self, Activation};
use distil_gpu_kernels::chain::{Binary, Stage};
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING};
use distil_gpu_kernels::feature_loss::Measure;
use distil_gpu_kernels::gather::sorted_order;
use distil_gpu_kernels::pointwise_loss::PointwiseKind;
use distil_gpu_kernels::reduce::ReduceOp;
use distil_gpu_kernels::{DType, Divergence};
use distil_gpu_tests::slopes::{Built, check, check_with, weigh};
use distil_gpu_tests::{graph_of, narrow, random};

#[test]
fn matmul_in_every_layout() {
    for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
        let [a, b] =
            [(trans_a, [2, 3]), (trans_b, [3, 4])].map(
                |(transposed, [rows, cols])| match transposed {
                    true => [cols, rows],
                    false => [rows, cols],
                },
            );
        let what = format!("matmul {trans_a} {trans_b}");
        let op = |graph: &mut Graph, p: &[TensorId]| graph.matmul(p[0], p[1], trans_a, trans_b);
        check(&what, &[&a, &b], op);
        let batched = [[2, a[0], a[1]], [2, b[0], b[1]]];
        check(&format!("batched {what}"), &[&batched[0], &batched[1]], op);
        let deep = [[2, 2, a[0], a[1]], [2, 2, b[0], b[1]]];
        check(&format!("deep {what}"), &[&deep[0], &deep[1]], op);
        if !trans_a {
            check(&format!("shared {what}"), &[&batched[0], &b], op);
            check(&format!("deep shared {what}"), &[&deep[0], &b], op);
        }
    }
    check("square", &[&[3, 3]], |graph, p| graph.matmul(p[0], p[0], false, true));
}

#[test]
fn every_activation() {
    let stages = [
        Stage::Relu,
        Stage::GeluErf,
        Stage::GeluTanh,
        Stage::Tanh,
        Stage::Sigmoid,
        Stage::Exp,
        Stage::Square,
        Stage::Affine { scale: -1.5, offset: 0.5 },
        Stage::Dropout { rate: 0.4, stream: 2 },
    ];
    for stage in stages {
        check(&format!("{stage:?}"), &[&[3, 7]], |graph, p| graph.map(stage, p[0]));
    }
    for stage in [Stage::Log, Stage::Sqrt, Stage::Reciprocal] {
        check(&format!("{stage:?}"), &[&[3, 7]], |graph, p| {
            let square = graph.map(Stage::Square, p[0])?;
            let positive = graph.affine(square, 1.0, 0.3)?;
            graph.map(stage, positive)
        });
    }
}

#[test]
fn every_activation_layer() {
    for activation in [Activation::Relu, Activation::Gelu, Activation::Tanh] {
        for rate in [0.0, 0.5] {
            check(&format!("{activation:?}, dropout {rate}"), &[&[4, 6]], |graph, p| {
                nn::activate(graph, activation, p[0], rate, 1)
            });
        }
    }
}

#[test]
fn binary_ops_with_every_broadcast() {
    let shapes: [[&[usize]; 2]; 12] = [
        [&[2, 3], &[2, 3]],
        [&[2, 3], &[3]],
        [&[2, 3], &[2, 1]],
        [&[2, 3], &[1]],
        [&[2, 3], &[]],
        [&[2, 1], &[1, 3]],
        [&[3], &[2, 1]],
        [&[2, 3, 4], &[3, 1]],
        [&[2, 3, 4], &[2, 1, 4]],
        [&[2, 1, 4], &[1, 3, 1]],
        [&[2, 3, 2, 2], &[3, 1, 1]],
        [&[1, 3, 1, 2], &[2, 1, 2, 1]],
    ];
    for [a, b] in shapes {
        for (a, b) in [(a, b), (b, a)] {
            for op in [Binary::Add, Binary::Sub, Binary::Mul] {
                check(&format!("{op:?} {a:?} {b:?}"), &[a, b], |graph, p| {
                    graph.binary(op, p[0], p[1])
                });
            }
            check(&format!("Div {a:?} {b:?}"), &[a, b], |graph, p| {
                let square = graph.map(Stage::Square, p[1])?;
                let positive = graph.affine(square, 1.0, 0.5)?;
                graph.div(p[0], positive)
            });
        }
    }
    check("the same tensor twice", &[&[5]], |graph, p| graph.mul(p[0], p[0]));
}

#[test]
fn reductions_over_every_axis() {
    for op in [ReduceOp::Sum, ReduceOp::Mean] {
        for (first, count) in [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 3)] {
            let what = format!("{op:?} over {count} axes from {first}");
            check(&what, &[&[2, 3, 4]], |graph, p| graph.reduce(op, p[0], first, count));
        }
    }
    // Long enough for two passes.
    check("a long sum", &[&[2048]], |graph, p| graph.reduce(ReduceOp::Sum, p[0], 0, 1));
}

#[test]
fn softmax_and_reshape() {
    check("softmax", &[&[3, 5]], |graph, p| graph.softmax(p[0]));
    check("softmax of one axis", &[&[6]], |graph, p| graph.softmax(p[0]));
    check("softmax of three axes", &[&[2, 3, 4]], |graph, p| graph.softmax(p[0]));
    check("reshape", &[&[2, 6]], |graph, p| graph.reshape(p[0], &[3, 4]));
    check("reshape between", &[&[2, 6], &[4, 2]], |graph, p| {
        let rows = graph.reshape(p[0], &[3, 4])?;
        let product = graph.matmul(rows, p[1], false, false)?;
        graph.reshape(product, &[6])
    });
}

#[test]
fn gather_of_every_kind_of_id() {
    // Rows named often, once, never; ids below 0 and beyond the table.
    for (ids, shape) in [
        (vec![2, 0, -1, 2, 5, 2, 4, 1, -100, 0], &[10][..]),
        (vec![3, 3, 1, -1, 3, 0], &[2, 3]),
        (vec![1; 70], &[70]),
    ] {
        let order = sorted_order(&ids);
        let inputs = [("ids", HostTensor::I32(&ids)), ("order", HostTensor::I32(&order))];
        let lookup = |graph: &mut Graph, table: TensorId| {
            let row_ids = graph.input("ids", shape, DType::I32);
            let order = graph.input("order", &[ids.len()], DType::I32);
            graph.gather(table, row_ids, order)
        };
        let what = format!("gather {ids:?}");
        check_with(&what, &[&[5, 3]], &inputs, |graph, p| lookup(graph, p[0]), weigh);
        // The table is the rows' and the product's, as in a language model's head.
        let tied = |graph: &mut Graph, p: &[TensorId]| {
            let rows = lookup(graph, p[0])?;
            graph.matmul(rows, p[0], false, true)
        };
        check_with(&format!("tied {what}"), &[&[5, 3]], &inputs, tied, weigh);
    }
}

#[test]
fn layer_norm_by_every_input() {
    for shape in [&[4, 5][..], &[2, 3, 6], &[20, 4], &[7]] {
        let cols = &shape[shape.len() - 1..];
        let op = |graph: &mut Graph, p: &[TensorId]| graph.layer_norm(p[0], p[1], p[2], 0.1);
        check(&format!("layer_norm {shape:?}"), &[shape, cols, cols], op);
    }
    check("layer_norm twice", &[&[4, 5], &[5], &[5]], |graph, p| {
        let y = graph.layer_norm(p[0], p[1], p[2], 0.1)?;
        let y = graph.plus(y, p[0])?;
        graph.layer_norm(y, p[1], p[2], 0.1)
    });
}

#[test]
fn attention_with_every_mask() {
    let shape = [3, 4, 6];
    let lengths = [("lengths", HostTensor::I32(&[4, 0, 3]))];
    for (heads, causal, dropout) in
        [(1, false, 0.0), (2, false, 0.4), (2, true, 0.0), (3, true, 0.3), (6, false, 0.0)]
    {
        let config =
            AttentionConfig { causal, dropout, stream: 4, ..AttentionConfig::new(heads, 1.3) };
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let lengths = graph.input("lengths", &[3], DType::I32);
            graph.attention(p[0], p[1], p[2], lengths, config)
        };
        check_with(&format!("{config:?}"), &[&shape, &shape, &shape], &lengths, op, weigh);
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let lengths = graph.input("lengths", &[3], DType::I32);
            graph.attention(p[0], p[0], p[0], lengths, config)
        };
        check_with(&format!("one tensor, {config:?}"), &[&shape], &lengths, op, weigh);
    }
}

/// Features of a teacher: one tensor, which nothing is learnt of.
fn teacher_input(graph: &mut Graph, name: &str, shape: &[usize]) -> TensorId {
    graph.input(name, shape, DType::F32)
}

#[test]
fn feature_losses_of_tokens_and_of_examples() {
    let lengths = [4, 0, 2];
    for measure in [Measure::Cosine, Measure::Square] {
        for shape in [&[3, 4, 5][..], &[3, 6], &[3, 1, 1]] {
            let teacher = narrow(&random(shape.iter().product(), 9));
            let inputs = [("lengths", HostTensor::I32(&lengths)), ("t", HostTensor::F32(&teacher))];
            let op = |graph: &mut Graph, p: &[TensorId]| {
                let lengths = graph.input("lengths", &[3], DType::I32);
                let t = teacher_input(graph, "t", shape);
                graph.feature_loss(p[0], t, lengths, FeatureLoss { measure, weight: 0.7 })
            };
            // The only element of a row has its own direction.
            if shape[shape.len() - 1] == 1 && measure == Measure::Cosine {
                continue;
            }
            let what = format!("{measure:?} of {shape:?}");
            check_with(&what, &[shape], &inputs, op, weigh);
            check_with(&format!("plain {what}"), &[shape], &inputs, op, |_, loss| Ok(loss));
        }
    }
    // Behind a projection, as where the student is narrower than its teacher.
    let teacher = narrow(&random(3 * 4 * 6, 9));
    let inputs = [("lengths", HostTensor::I32(&lengths)), ("t", HostTensor::F32(&teacher))];
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let lengths = graph.input("lengths", &[3], DType::I32);
        let t = teacher_input(graph, "t", &[3, 4, 6]);
        let wide = graph.matmul(p[0], p[1], false, true)?;
        let op = FeatureLoss { measure: Measure::Square, weight: 0.7 };
        graph.feature_loss(wide, t, lengths, op)
    };
    check_with("projected", &[&[3, 4, 2], &[6, 2]], &inputs, op, weigh);
}

#[test]
fn relation_losses_of_two_tensors_and_of_one() {
    let lengths = [4, 0, 2];
    for (heads, own, theirs) in [(1, 3, 3), (2, 6, 4), (3, 3, 9)] {
        let (shape, teacher_shape) = ([3, 4, own], [3, 4, theirs]);
        let [ta, tb] = [7, 8].map(|salt| narrow(&random(3 * 4 * theirs, salt)));
        let inputs = [
            ("lengths", HostTensor::I32(&lengths)),
            ("ta", HostTensor::F32(&ta)),
            ("tb", HostTensor::F32(&tb)),
        ];
        let op = |graph: &mut Graph, a: TensorId, b: TensorId| {
            let lengths = graph.input("lengths", &[3], DType::I32);
            let teacher = ["ta", "tb"].map(|name| teacher_input(graph, name, &teacher_shape));
            let op = RelationLoss { heads, weight: 0.7 };
            graph.relation_loss([a, b], teacher, lengths, op)
        };
        let two = |graph: &mut Graph, p: &[TensorId]| op(graph, p[0], p[1]);
        let one = |graph: &mut Graph, p: &[TensorId]| op(graph, p[0], p[0]);
        let what = format!("{heads} heads, {own} columns and {theirs}");
        check_with(&what, &[&shape, &shape], &inputs, two, weigh);
        check_with(&format!("plain, {what}"), &[&shape, &shape], &inputs, two, |_, loss| Ok(loss));
        check_with(&format!("one tensor, {what}"), &[&shape], &inputs, one, weigh);
    }
}

#[test]
fn unit_rows_by_their_input() {
    check("unit rows", &[&[3, 5]], |graph, p| nn::unit_rows(graph, p[0]));
}

const LABELS: [i32; 5] = [3, IGNORED, 0, PADDING, 5];
const CLASSES: usize = 6;
/// Row losses of student logits, `columns` wide, with or without a teacher; p[1] would be the teacher.
fn row_losses(graph: &mut Graph, p: &[TensorId], teacher: Option<usize>) -> Built {
    let labels = graph.input("labels", &[LABELS.len()], DType::I32);
    let teacher =
        teacher.map(|columns| graph.input("teacher", &[LABELS.len(), columns], DType::F32));
    Ok(graph.distill_loss(p[0], labels, teacher, CLASSES)?.0)
}

#[test]
fn distill_loss_plain_and_weighed() {
    let plain = |_: &mut Graph, loss: TensorId| Ok(loss);
    for columns in [CLASSES, CLASSES + 2] {
        for teacher in [None, Some(CLASSES), Some(CLASSES + 3)] {
            let logits = narrow(&random(LABELS.len() * teacher.unwrap_or(0), 9));
            let mut inputs = vec![("labels", HostTensor::I32(&LABELS))];
            inputs.extend(teacher.map(|_| ("teacher", HostTensor::F32(&logits))));
            let shape = [LABELS.len(), columns];
            let op = |graph: &mut Graph, p: &[TensorId]| row_losses(graph, p, teacher);
            let what = format!("distill_loss {columns} {teacher:?}");
            check_with(&what, &[&shape], &inputs, op, plain);
            check_with(&format!("weighed {what}"), &[&shape], &inputs, op, weigh);
        }
    }
}

/// Every divergence, with weights of the rows' hard terms, standardised logits and smoothed labels, and without.
#[test]
fn every_divergence_plain_and_weighed() {
    let plain = |_: &mut Graph, loss: TensorId| Ok(loss);
    let (teacher, weights) =
        (narrow(&random(LABELS.len() * CLASSES, 9)), [0.5, 2.0, 1.5, 4.0, 0.25]);
    let inputs = [
        ("labels", HostTensor::I32(&LABELS)),
        ("teacher", HostTensor::F32(&teacher)),
        ("weights", HostTensor::F32(&weights)),
    ];
    for divergence in Divergence::each() {
        for (inputs, weighted) in [(&inputs[..2], false), (&inputs[..], true)] {
            let op = |graph: &mut Graph, p: &[TensorId]| {
                let rows = LABELS.len();
                let labels = graph.input("labels", &[rows], DType::I32);
                let teacher = graph.input("teacher", &[rows, CLASSES], DType::F32);
                let weights = weighted.then(|| graph.input("weights", &[rows], DType::F32));
                let smoothing = if weighted { 0.25 } else { 0.0 };
                let terms = LossTerms { divergence, weights, standardise: weighted, smoothing };
                Ok(graph.distill_loss_of(p[0], labels, Some(teacher), CLASSES, terms)?.0)
            };
            let shape = [LABELS.len(), CLASSES + 1];
            let what = format!("{divergence:?} {weighted}");
            check_with(&what, &[&shape], inputs, op, plain);
            check_with(&format!("weighed {what}"), &[&shape], inputs, op, weigh);
        }
    }
}

#[test]
fn pointwise_losses_plain_and_weighed() {
    let plain = |_: &mut Graph, loss: TensorId| Ok(loss);
    let kinds = [0, IGNORED, 1, PADDING, 0];
    let shape = [kinds.len(), 3];
    let mut targets = [0.0, 1.0, 0.25].repeat(kinds.len());
    targets[1] = f32::NAN;
    let teacher = narrow(&random(targets.len(), 9));
    let inputs = [
        ("kinds", HostTensor::I32(&kinds)),
        ("targets", HostTensor::F32(&targets)),
        ("teacher", HostTensor::F32(&teacher)),
    ];
    let logistic = Divergence::OF_OUTCOMES.map(PointwiseKind::Logistic);
    for kind in logistic.into_iter().chain([PointwiseKind::Square]) {
        for (inputs, taught) in [(&inputs[..2], false), (&inputs[..], true)] {
            let op = |graph: &mut Graph, p: &[TensorId]| {
                let kinds = graph.input("kinds", &shape[..1], DType::I32);
                let labels = graph.input("targets", &shape, DType::F32);
                let teacher = taught.then(|| graph.input("teacher", &shape, DType::F32));
                Ok(graph.pointwise_loss(p[0], labels, kinds, teacher, kind)?.0)
            };
            let what = format!("{kind:?} {taught}");
            check_with(&what, &[&shape], inputs, op, plain);
            check_with(&format!("weighed {what}"), &[&shape], inputs, op, weigh);
        }
    }
}

/// More rows than a chunk has, two of which count in no term or not in the hard one; the table is the weight of the
/// head and the source of its hidden states, so that its gradients add up.
#[test]
fn vocabulary_loss_in_chunks_with_a_tied_weight() {
    const ROWS: usize = 70;
    let (vocab, hidden, wide) = (CLASSES, 3, 5);
    let mut labels: Vec<i32> = (0..ROWS as i32).map(|row| row * 5 % vocab as i32).collect();
    (labels[2], labels[66]) = (IGNORED, PADDING);
    let ids: Vec<i32> = (0..ROWS as i32).map(|row| row * 3 % vocab as i32).collect();
    let order = sorted_order(&ids);
    let theirs = [ROWS * wide, vocab * wide, vocab];
    let theirs: Vec<Vec<f32>> =
        (0..).zip(theirs).map(|(i, n)| narrow(&random(n, 20 + i))).collect();
    let inputs = [
        ("labels", HostTensor::I32(&labels)),
        ("ids", HostTensor::I32(&ids)),
        ("order", HostTensor::I32(&order)),
        ("t0", HostTensor::F32(&theirs[0])),
        ("t1", HostTensor::F32(&theirs[1])),
        ("t2", HostTensor::F32(&theirs[2])),
    ];
    for teacher in [true, false] {
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let ids = graph.input("ids", &[ROWS], DType::I32);
            let order = graph.input("order", &[ROWS], DType::I32);
            let rows = graph.gather(p[0], ids, order)?;
            let rows = graph.mul(rows, p[2])?;
            let student = Decoder { hidden: rows, weight: p[0], bias: p[1] };
            let mut theirs = |name: &str, shape: &[usize]| graph.input(name, shape, DType::F32);
            let theirs = Decoder {
                hidden: theirs("t0", &[ROWS, wide]),
                weight: theirs("t1", &[vocab, wide]),
                bias: theirs("t2", &[vocab]),
            };
            let labels = graph.input("labels", &[ROWS], DType::I32);
            Ok(graph.vocabulary_loss(student, labels, teacher.then_some(theirs), 64)?.0)
        };
        let inputs = if teacher { &inputs[..] } else { &inputs[..3] };
        let shapes: [&[usize]; 3] = [&[vocab, hidden], &[vocab], &[ROWS, hidden]];
        let plain = |_: &mut Graph, loss: TensorId| Ok(loss);
        check_with(&format!("vocabulary_loss {teacher}"), &shapes, inputs, op, plain);
        check_with(&format!("weighed vocabulary_loss {teacher}"), &shapes, inputs, op, weigh);
    }
}

#[test]
fn a_deep_net() {
    let shapes: [&[usize]; 7] = [&[3, 4], &[5, 4], &[5], &[6, 5], &[6], &[CLASSES, 6], &[CLASSES]];
    let labels = &LABELS[..3];
    let inputs = [("labels", HostTensor::I32(labels))];
    let op = |graph: &mut Graph, p: &[TensorId]| {
        let mut x = p[0];
        for layer in 0..3 {
            x = graph.matmul(x, p[1 + 2 * layer], false, true)?;
            x = graph.plus(x, p[2 + 2 * layer])?;
            if layer < 2 {
                x = graph.map(Stage::Tanh, x)?;
            }
        }
        let labels = graph.input("labels", &[3], DType::I32);
        Ok(graph.distill_loss(x, labels, None, CLASSES)?.0)
    };
    check_with("a deep net", &shapes, &inputs, op, weigh);
}

#[test]
fn what_has_no_gradient_says_so() {
    let (mut graph, p) = graph_of(&[&[5, CLASSES], &[2]]);
    let max = graph.reduce(ReduceOp::Max, p[0], 0, 1).unwrap();
    let error = differentiate(&mut graph, &[max], &p[..1]).unwrap_err();
    assert!(matches!(&error, Error::NoGradient { op: "max", .. }), "{error}");
    let error = differentiate(&mut graph, &[p[0]], &p).unwrap_err().to_string();
    assert!(error.contains("p1 [2] (it has no influence)"), "{error}");
    let labels = graph.input("labels", &[5], DType::I32);
    let (_, terms) = graph.distill_loss(p[0], labels, None, CLASSES).unwrap();
    let error = differentiate(&mut graph, &[terms], &p[..1]).unwrap_err();
    assert!(matches!(&error, Error::NoGradient { op: "distill_loss", .. }), "{error}");
}
