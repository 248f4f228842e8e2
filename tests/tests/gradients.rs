//! Gradients against central differences in f64, and what a plan must not change: fused or not, batch
//! whole or split, memory shared or not, the values are the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::Error;
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::nn::{self, Activation};
use distil_gpu_engine::plan::{Options, Plan};
use distil_gpu_engine::store::{Init, Layout, ParameterSpec, Part};
use distil_gpu_kernels::chain::{Binary, Stage};
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING};
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::reduce::ReduceOp;
use distil_gpu_kernels::{DType, StepState};
use distil_gpu_tests::{
    Session, TestDevice, assert_close, devices, max_error, mlp, mlp_layout, narrow, oracle,
    parameters, random, random_labels,
};

type Built = Result<TensorId, Error>;

/// f64 agrees with f64 in another order of summation.
const ROUNDING_F64: f64 = 1e-26;
/// A few layers in f32.
const ROUNDING_F32: f64 = 2e-12;
/// 24 layers there and back, and a driver's tanh.
const ROUNDING_DEEP: f64 = 1e-10;
const UNFUSED: Options = Options { fuse: false };

fn state() -> StepState {
    StepState {
        step: 3,
        seed: 5,
        learning_rate: 0.1,
        temperature: 2.5,
        alpha: 0.3,
        soft_scale: 0.25,
        hard_scale: 0.2,
        ..StepState::default()
    }
}

fn spec(name: &str, shape: &[usize]) -> ParameterSpec {
    let init = Init::Constant(0.0);
    ParameterSpec { name: name.to_owned(), shape: shape.to_vec(), decay: true, init }
}

fn graph_of(shapes: &[&[usize]]) -> (Graph, Vec<TensorId>) {
    let specs = shapes.iter().enumerate().map(|(i, shape)| spec(&format!("p{i}"), shape)).collect();
    let mut graph = Graph::new(vec![Layout::new(specs).unwrap()]);
    let parameters = (0..shapes.len()).map(|i| graph.parameter(0, i)).collect();
    (graph, parameters)
}

fn values(shapes: &[&[usize]]) -> Vec<Vec<f64>> {
    (0..).zip(shapes).map(|(i, shape)| random(shape.iter().product(), i)).collect()
}

/// p + 0.3 p²: uses p twice, and its slope is nowhere the same.
fn bend(graph: &mut Graph, p: TensorId) -> Built {
    let square = graph.map(Stage::Square, p)?;
    let square = graph.affine(square, 0.3, 0.0)?;
    graph.plus(p, square)
}

/// y² / 2 + y · w with w running from 0.2 to 1.2: uses y twice, and the gradient that flows into y is
/// nowhere 1.
fn weigh(graph: &mut Graph, y: TensorId) -> Built {
    let len = graph.tensor(y).len();
    let specs = vec![spec("weights", &[len])];
    let store = graph.stores.len();
    graph.stores.push(Layout::new(specs)?);
    let weights = graph.parameter(store, 0);
    let shape = graph.shape(y).to_vec();
    let weights = graph.reshape(weights, &shape)?;
    let square = graph.map(Stage::Square, y)?;
    let half = graph.affine(square, 0.5, 0.0)?;
    let product = graph.mul(y, weights)?;
    graph.plus(half, product)
}

/// Compares the gradients by all parameters, through `op` in mid-graph, with central differences of
/// the sum of what `op` makes, weighed.
fn check(what: &str, shapes: &[&[usize]], op: impl Fn(&mut Graph, &[TensorId]) -> Built) {
    check_with(what, shapes, &[], op, weigh);
}

fn check_with(
    what: &str,
    shapes: &[&[usize]],
    inputs: &[(&str, HostTensor<'_>)],
    op: impl Fn(&mut Graph, &[TensorId]) -> Built,
    finish: impl Fn(&mut Graph, TensorId) -> Built,
) {
    let (mut graph, parameters) = graph_of(shapes);
    let bent: Vec<TensorId> = parameters.iter().map(|&p| bend(&mut graph, p).unwrap()).collect();
    let made = op(&mut graph, &bent).unwrap_or_else(|error| panic!("{what}: {error}"));
    let loss = finish(&mut graph, made).unwrap();
    graph.output("loss", loss);
    let forward = graph.clone();
    let gradients = differentiate(&mut graph, &[loss], &parameters).unwrap();
    for (i, gradient) in gradients.iter().enumerate() {
        assert_eq!(graph.shape(*gradient), shapes[i], "{what}");
        graph.output(&format!("gradient {i}"), *gradient);
    }

    let starts = values(shapes);
    let mut device = oracle();
    let prepare = |session: &mut Session<'_>| {
        session.set_all(0, &starts);
        for store in 1..session.stores.len() {
            let len = session.stores[store].layout.parameter_count();
            let ramp: Vec<f64> = (0..len).map(|i| 0.2 + i as f64 / len as f64).collect();
            session.set_all(store, &[ramp]);
        }
    };
    let found: Vec<Vec<f64>> = {
        let mut session = Session::new(&mut device, &graph, Options::default());
        prepare(&mut session);
        session.run(&state(), inputs);
        (0..shapes.len()).map(|i| session.output(&format!("gradient {i}"))).collect()
    };
    let mut session = Session::new(&mut device, &forward, Options::default());
    prepare(&mut session);
    let mut loss_at = |index: usize, values: &[f64]| -> f64 {
        session.set(0, index, values);
        session.run(&state(), inputs);
        session.output("loss").iter().sum()
    };
    const STEP: f64 = 1e-5;
    for (index, start) in starts.iter().enumerate() {
        let mut moved = start.clone();
        for at in 0..start.len() {
            moved[at] = start[at] + STEP;
            let above = loss_at(index, &moved);
            moved[at] = start[at] - STEP;
            let below = loss_at(index, &moved);
            moved[at] = start[at];
            let (slope, gradient) = ((above - below) / (2.0 * STEP), found[index][at]);
            let error = (gradient - slope).abs();
            assert!(
                error <= 1e-7 * slope.abs().max(1.0),
                "{what}: p{index}[{at}] {gradient}, not {slope}"
            );
        }
        loss_at(index, start);
    }
    assert!(found.concat().iter().any(|g| *g != 0.0), "{what}: no gradient at all");
}

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

/// Layers of an MLP over `features` with the distillation loss: sum of the row losses and the gradients.
struct Net {
    graph: Graph,
    loss: TensorId,
    gradients: Vec<TensorId>,
}

const SIZES: [usize; 4] = [7, 12, 9, CLASSES];

fn net(rows: usize, activation: Activation, rate: f32) -> Net {
    let mut graph = Graph::new(vec![mlp_layout(&SIZES, false)]);
    let x = graph.input("features", &[rows, SIZES[0]], DType::F32);
    let logits = mlp(&mut graph, 0, x, activation, rate);
    let labels = graph.input("labels", &[rows], DType::I32);
    let teacher = graph.input("teacher", &[rows, CLASSES], DType::F32);
    let (loss, terms) = graph.distill_loss(logits, labels, Some(teacher), CLASSES).unwrap();
    graph.accumulate(terms, 0).unwrap();
    let parameters = parameters(&mut graph, 0);
    let gradients = differentiate(&mut graph, &[loss], &parameters).unwrap();
    Net { graph, loss, gradients }
}

/// Eight examples.
struct Batch {
    features: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
}

const ROWS: usize = 8;

fn batch() -> Batch {
    let mut labels = random_labels(ROWS, CLASSES, 32);
    labels[6] = IGNORED;
    Batch {
        features: narrow(&random(ROWS * SIZES[0], 30)),
        teacher: narrow(&random(ROWS * CLASSES, 31)),
        labels,
    }
}

/// Loss and all gradients of some rows of the batch.
fn loss_and_gradients(
    device: &mut dyn TestDevice,
    activation: Activation,
    rate: f32,
    options: Options,
    rows: std::ops::Range<usize>,
) -> (Vec<Vec<f64>>, usize) {
    let Net { mut graph, loss, gradients } = net(rows.len(), activation, rate);
    graph.output("loss", loss);
    gradients.iter().enumerate().for_each(|(i, id)| graph.output(&format!("gradient {i}"), *id));
    let mut session = Session::new(device, &graph, options);
    let starts = session.stores[0].layout.parameters.clone();
    for (i, spec) in starts.iter().enumerate() {
        session.set(0, i, &random(spec.len(), 40 + i as u32));
    }
    let batch = batch();
    let part =
        |values: &[f32], columns: usize| values[rows.start * columns..rows.end * columns].to_vec();
    let (features, teacher) = (part(&batch.features, SIZES[0]), part(&batch.teacher, CLASSES));
    session.run(
        &state(),
        &[
            ("features", HostTensor::F32(&features)),
            ("teacher", HostTensor::F32(&teacher)),
            ("labels", HostTensor::I32(&batch.labels[rows])),
        ],
    );
    let names = (0..6).map(|i| format!("gradient {i}")).chain(["loss".to_owned()]);
    (names.map(|name| session.output(&name)).collect(), session.plan.calls.len())
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
fn fusion_changes_no_value() {
    for (activation, rate) in
        [(Activation::Relu, 0.3), (Activation::Gelu, 0.3), (Activation::Tanh, 0.0)]
    {
        let run = |device: &mut dyn TestDevice, options| {
            loss_and_gradients(device, activation, rate, options, 0..ROWS)
        };
        let (fused, fused_calls) = run(&mut oracle(), Options::default());
        let (plain, plain_calls) = run(&mut oracle(), UNFUSED);
        assert!(fused_calls + 6 <= plain_calls, "{fused_calls} calls of {plain_calls}");
        assert_close("fused, f64", &fused.concat(), &plain.concat(), ROUNDING_F64);
        for device in &mut devices() {
            for options in [Options::default(), UNFUSED] {
                let found = run(&mut **device, options).0;
                for (i, (found, expected)) in found.iter().zip(&plain).enumerate() {
                    let what =
                        format!("{i} of {activation:?}, {options:?} on {}", device.info().name);
                    assert_close(&what, found, expected, ROUNDING_F32);
                }
            }
        }
    }
}

#[test]
fn micro_batches_sum_to_the_batch() {
    let whole = |device: &mut dyn TestDevice, rows| {
        loss_and_gradients(device, Activation::Gelu, 0.0, Options::default(), rows).0
    };
    let run = |device: &mut dyn TestDevice, limit: f64| {
        let expected = whole(device, 0..ROWS);
        let (first, second) = (whole(device, 0..3), whole(device, 3..ROWS));
        for i in 0..6 {
            let sum: Vec<f64> = first[i].iter().zip(&second[i]).map(|(a, b)| a + b).collect();
            assert_close(&format!("gradient {i} of two parts"), &sum, &expected[i], limit);
        }
        assert_close("row losses", &[&first[6][..], &second[6]].concat(), &expected[6], limit);
    };
    run(&mut oracle(), ROUNDING_F64);
    devices().iter_mut().for_each(|device| run(&mut **device, ROUNDING_F32));
}

#[test]
fn memory_is_reused_and_nothing_is_lost() {
    const LAYERS: usize = 24;
    let shapes = vec![&[16_usize, 16][..]; LAYERS];
    let build = |read_all: bool| {
        let (mut graph, parameters) = graph_of(&shapes);
        let mut x = graph.input("x", &[16, 16], DType::F32);
        let first = x;
        for (layer, &p) in parameters.iter().enumerate() {
            let product = graph.matmul(x, p, false, false).unwrap();
            // A residual from far back, so that lives overlap.
            let sum = graph.plus(product, if layer % 3 == 0 { first } else { x }).unwrap();
            x = graph.map(Stage::Tanh, sum).unwrap();
            if read_all {
                graph.output(&format!("layer {layer}"), x);
            }
        }
        let total = graph.reduce(ReduceOp::Mean, x, 0, 2).unwrap();
        let gradients = differentiate(&mut graph, &[total], &parameters).unwrap();
        graph.output("first gradient", gradients[0]);
        graph.output("result", x);
        graph
    };
    let (shared, apart) = (build(false), build(true));
    let plan = Plan::compile(&shared, Options::default()).unwrap();
    let all: usize = shared.tensors.iter().map(|tensor| tensor.len() * 4).sum();
    assert!(plan.own_bytes() * 2 < all as u64, "{} bytes of {all}", plan.own_bytes());
    let x = narrow(&random(256, 99));
    let run = |device: &mut dyn TestDevice, graph: &Graph| {
        let mut session = Session::new(device, graph, Options::default());
        let weights: Vec<Vec<f64>> =
            values(&shapes).into_iter().map(|w| w.iter().map(|w| w * 0.5).collect()).collect();
        session.set_all(0, &weights);
        // Twice: nothing of the first run may leak into the second.
        for _ in 0..2 {
            session.run(&state(), &[("x", HostTensor::F32(&x))]);
        }
        ["first gradient", "result"].map(|name| session.output(name))
    };
    let expected = run(&mut oracle(), &apart);
    assert_eq!(run(&mut oracle(), &shared), expected);
    for device in &mut devices() {
        let found = run(&mut **device, &shared);
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(
                &format!("24 layers on {}", device.info().name),
                found,
                expected,
                ROUNDING_DEEP,
            );
        }
    }
}

#[test]
fn outputs_may_be_inputs_parameters_and_each_other() {
    let (mut graph, p) = graph_of(&[&[2, 3], &[2, 3]]);
    let x = graph.input("x", &[2, 3], DType::F32);
    let unread = graph.input("unread", &[3], DType::F32);
    let sum = graph.plus(x, p[0]).unwrap();
    let again = graph.reshape(sum, &[3, 2]).unwrap();
    let x_again = graph.reshape(x, &[6]).unwrap();
    let twice = graph.affine(again, 2.0, 0.0).unwrap();
    for (name, id) in [
        ("x", x),
        ("x again", x_again),
        ("unread", unread),
        ("p0", p[0]),
        ("p1", p[1]),
        ("sum", sum),
        ("sum by another name", sum),
        ("sum in another shape", again),
        ("twice", twice),
    ] {
        graph.output(name, id);
    }
    let (x, unread) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0]);
    let parameters = [vec![0.5; 6], vec![-1.0; 6]];
    let sum: Vec<f64> = x.iter().map(|x| f64::from(*x) + 0.5).collect();
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    for device in &mut devices() {
        let mut session = Session::new(&mut **device, &graph, Options::default());
        session.set_all(0, &parameters);
        session.run(&state(), &[("x", HostTensor::F32(&x)), ("unread", HostTensor::F32(&unread))]);
        for name in ["x", "x again"] {
            assert_eq!(session.output(name), wide(&x), "{name}");
        }
        assert_eq!(session.output("unread"), wide(&unread));
        assert_eq!(session.output("p0"), parameters[0]);
        assert_eq!(session.output("p1"), parameters[1]);
        for name in ["sum", "sum by another name", "sum in another shape"] {
            assert_eq!(session.output(name), sum, "{name}");
        }
        assert_eq!(session.output("twice"), sum.iter().map(|s| 2.0 * s).collect::<Vec<f64>>());
    }
}

#[test]
fn logits_survive_the_loss_that_overwrites_them() {
    let shape = [LABELS.len(), CLASSES];
    let logits = narrow(&random(LABELS.len() * CLASSES, 4));
    for (read_logits, self_teacher) in [(false, false), (true, false), (false, true), (true, true)]
    {
        for device in &mut devices() {
            let (mut graph, p) = graph_of(&[&shape]);
            let student = graph.affine(p[0], 2.0, 1.0).unwrap();
            let labels = graph.input("labels", &[LABELS.len()], DType::I32);
            let teacher = graph.input("teacher", &shape, DType::F32);
            let teacher = if self_teacher { student } else { teacher };
            let (loss, _) = graph.distill_loss(student, labels, Some(teacher), CLASSES).unwrap();
            let later = graph.map(Stage::Tanh, student).unwrap();
            let gradient = differentiate(&mut graph, &[loss], &p).unwrap()[0];
            graph.output("gradient", gradient);
            if read_logits {
                let flat = graph.reshape(student, &[30]).unwrap();
                graph.output("logits", flat);
                graph.output("tanh", later);
            }
            let start = random(LABELS.len() * CLASSES, 0);
            let mut inputs = vec![("labels", HostTensor::I32(&LABELS))];
            if !self_teacher {
                inputs.push(("teacher", HostTensor::F32(&logits)));
            }
            let run = |device: &mut dyn TestDevice| {
                let mut session = Session::new(device, &graph, Options::default());
                session.set_all(0, std::slice::from_ref(&start));
                session.run(&state(), &inputs);
                if read_logits {
                    let logits: Vec<f64> = start.iter().map(|p| 2.0 * p + 1.0).collect();
                    let tanh: Vec<f64> = logits.iter().map(|z| z.tanh()).collect();
                    assert_close("logits", &session.output("logits"), &logits, ROUNDING_F32);
                    assert_close("tanh", &session.output("tanh"), &tanh, ROUNDING_F32);
                }
                session.output("gradient")
            };
            let (found, expected) = (run(&mut **device), run(&mut oracle()));
            assert_close("gradient", &found, &expected, ROUNDING_F32);
            assert!(max_error(&expected, &vec![0.0; 30]) > 0.01);
        }
    }
}

fn sgd() -> OptimizerConfig {
    let rule = Rule::Sgd { momentum: 0.0, nesterov: false };
    OptimizerConfig { rule, weight_decay: 0.0, clip: None, max_norm: None }
}

#[test]
fn parameters_may_share_a_gradient() {
    // d/da = g, d/db = g, d/dc = 2 g, d/dd = 1 at every element: the first three are made from each other.
    let shape: &[usize] = &[3, 4];
    let (mut graph, p) = graph_of(&[shape; 4]);
    let ab = graph.plus(p[0], p[1]).unwrap();
    let c = graph.affine(p[2], 2.0, 0.0).unwrap();
    let sum = graph.plus(ab, c).unwrap();
    let loss = graph.map(Stage::Tanh, sum).unwrap();
    let gradients = differentiate(&mut graph, &[loss, p[3]], &p).unwrap();
    graph.optimize(0, &gradients, sgd()).unwrap();
    let starts = values(&[shape; 4]);
    let run = |device: &mut dyn TestDevice| {
        let mut session = Session::new(device, &graph, Options::default());
        session.set_all(0, &starts);
        session.run(&state(), &[]);
        session.all(0, Part::Parameters)
    };
    let slope: Vec<f64> = (0..12)
        .map(|i| 1.0 - (starts[0][i] + starts[1][i] + 2.0 * starts[2][i]).tanh().powi(2))
        .collect();
    let rate = f64::from(0.1_f32);
    let step = |start: &[f64], factor: f64| -> Vec<f64> {
        start.iter().zip(&slope).map(|(p, g)| p - rate * factor * g).collect()
    };
    let last = starts[3].iter().map(|p| p - rate).collect();
    let expected =
        [step(&starts[0], 1.0), step(&starts[1], 1.0), step(&starts[2], 2.0), last].concat();
    assert_close("f64", &run(&mut oracle()), &expected, ROUNDING_F64);
    for device in &mut devices() {
        assert_close(&device.info().name.clone(), &run(&mut **device), &expected, ROUNDING_F32);
    }
}

#[test]
fn what_runs_before_an_update_reads_the_parameters_before_it() {
    let (mut graph, p) = graph_of(&[&[4]]);
    let before = graph.map(Stage::Square, p[0]).unwrap();
    let gradients = differentiate(&mut graph, &[p[0]], &p).unwrap();
    graph.optimize(0, &gradients, sgd()).unwrap();
    // Fused with what makes its input, this would read the parameters after the update.
    let after = graph.affine(before, 1.0, 1.0).unwrap();
    graph.output("squares", after);
    for options in [Options::default(), UNFUSED] {
        let mut device = oracle();
        let mut session = Session::new(&mut device, &graph, options);
        session.set_all(0, &[vec![1.0, 2.0, 3.0, 4.0]]);
        session.run(&state(), &[]);
        assert_eq!(session.output("squares"), [2.0, 5.0, 10.0, 17.0], "{options:?}");
    }
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
