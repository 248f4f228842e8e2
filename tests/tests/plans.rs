//! What a plan must not change: fused or not, batch whole or split, memory shared or not, the values are
//! the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::nn::Activation;
use distil_gpu_engine::plan::{Options, Plan, Precision};
use distil_gpu_engine::store::Part;
use distil_gpu_kernels::DType;
use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING};
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::reduce::ReduceOp;
use distil_gpu_tests::{
    assert_close, devices, graph_of, max_error, mlp, mlp_layout, narrow, oracle, parameters,
    random, random_labels, session, some_state, values_of,
};

/// f64 agrees with f64 in another order of summation.
const ROUNDING_F64: f64 = 1e-26;
/// A few layers in f32.
const ROUNDING_F32: f64 = 2e-12;
/// 24 layers there and back, and a driver's tanh.
const ROUNDING_DEEP: f64 = 1e-10;
const UNFUSED: Options = Options { fuse: false, precision: Precision::F32 };
const LABELS: [i32; 5] = [3, IGNORED, 0, PADDING, 5];
const CLASSES: usize = 6;

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
    device: &mut dyn Device,
    activation: Activation,
    rate: f32,
    options: Options,
    rows: std::ops::Range<usize>,
) -> (Vec<Vec<f64>>, usize) {
    let Net { mut graph, loss, gradients } = net(rows.len(), activation, rate);
    graph.output("loss", loss);
    gradients.iter().enumerate().for_each(|(i, id)| graph.output(&format!("gradient {i}"), *id));
    let mut session = session(device, &graph, options);
    let starts = session.stores[0].layout.parameters.clone();
    for (i, spec) in starts.iter().enumerate() {
        session.set(0, i, &random(spec.len(), 40 + i as u32)).unwrap();
    }
    let batch = batch();
    let part =
        |values: &[f32], columns: usize| values[rows.start * columns..rows.end * columns].to_vec();
    let (features, teacher) = (part(&batch.features, SIZES[0]), part(&batch.teacher, CLASSES));
    session
        .run(
            &some_state(),
            &[
                ("features", HostTensor::F32(&features)),
                ("teacher", HostTensor::F32(&teacher)),
                ("labels", HostTensor::I32(&batch.labels[rows])),
            ],
        )
        .unwrap();
    let names = (0..6).map(|i| format!("gradient {i}")).chain(["loss".to_owned()]);
    (names.map(|name| session.output(&name).unwrap()).collect(), session.plan.calls.len())
}

#[test]
fn fusion_changes_no_value() {
    for (activation, rate) in
        [(Activation::Relu, 0.3), (Activation::Gelu, 0.3), (Activation::Tanh, 0.0)]
    {
        let run = |device: &mut dyn Device, options| {
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
    let whole = |device: &mut dyn Device, rows| {
        loss_and_gradients(device, Activation::Gelu, 0.0, Options::default(), rows).0
    };
    let run = |device: &mut dyn Device, limit: f64| {
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
    let run = |device: &mut dyn Device, graph: &Graph| {
        let mut session = session(device, graph, Options::default());
        let weights: Vec<Vec<f64>> =
            values_of(&shapes).into_iter().map(|w| w.iter().map(|w| w * 0.5).collect()).collect();
        session.set_all(0, &weights).unwrap();
        // Twice: nothing of the first run may leak into the second.
        for _ in 0..2 {
            session.run(&some_state(), &[("x", HostTensor::F32(&x))]).unwrap();
        }
        ["first gradient", "result"].map(|name| session.output(name).unwrap())
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
        let mut session = session(&mut **device, &graph, Options::default());
        session.set_all(0, &parameters).unwrap();
        session
            .run(&some_state(), &[("x", HostTensor::F32(&x)), ("unread", HostTensor::F32(&unread))])
            .unwrap();
        for name in ["x", "x again"] {
            assert_eq!(session.output(name).unwrap(), wide(&x), "{name}");
        }
        assert_eq!(session.output("unread").unwrap(), wide(&unread));
        assert_eq!(session.output("p0").unwrap(), parameters[0]);
        assert_eq!(session.output("p1").unwrap(), parameters[1]);
        for name in ["sum", "sum by another name", "sum in another shape"] {
            assert_eq!(session.output(name).unwrap(), sum, "{name}");
        }
        assert_eq!(
            session.output("twice").unwrap(),
            sum.iter().map(|s| 2.0 * s).collect::<Vec<f64>>()
        );
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
            let run = |device: &mut dyn Device| {
                let mut session = session(device, &graph, Options::default());
                session.set_all(0, std::slice::from_ref(&start)).unwrap();
                session.run(&some_state(), &inputs).unwrap();
                if read_logits {
                    let logits: Vec<f64> = start.iter().map(|p| 2.0 * p + 1.0).collect();
                    let tanh: Vec<f64> = logits.iter().map(|z| z.tanh()).collect();
                    assert_close(
                        "logits",
                        &session.output("logits").unwrap(),
                        &logits,
                        ROUNDING_F32,
                    );
                    assert_close("tanh", &session.output("tanh").unwrap(), &tanh, ROUNDING_F32);
                }
                session.output("gradient").unwrap()
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
    let starts = values_of(&[shape; 4]);
    let run = |device: &mut dyn Device| {
        let mut session = session(device, &graph, Options::default());
        session.set_all(0, &starts).unwrap();
        session.run(&some_state(), &[]).unwrap();
        session.all(0, Part::Parameters).unwrap()
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
        let mut session = session(&mut device, &graph, options);
        session.set_all(0, &[vec![1.0, 2.0, 3.0, 4.0]]).unwrap();
        session.run(&some_state(), &[]).unwrap();
        assert_eq!(session.output("squares").unwrap(), [2.0, 5.0, 10.0, 17.0], "{options:?}");
    }
}
