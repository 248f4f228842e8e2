//! Layers over images: gradients against central differences in f64, batch statistics far from zero, images of more elements
//! than f32 counts, and training runs of residual networks against PyTorch; see tests/fixtures/README.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Arc;

use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::graph::ops::{BatchNormConfig, OptimizerConfig, Update};
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::models::{self, BatchShape, ModelConfig};
use distil_gpu_engine::plan::Options;
use distil_gpu_engine::store::{Layout, Part};
use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::conv::{Conv, Window};
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::{DType, Kernel, StepState};
use distil_gpu_tests::slopes::check;
use distil_gpu_tests::{
    Data, Fixtures, assert_close, devices, graph_of, max_error, narrow, oracle, parameters, random,
    run_kernel, session,
};
use safetensors::tensor::TensorView;

#[test]
fn convolutions_by_image_and_weights() {
    let uneven = Window { taps: [2, 3], stride: [2, 1], dilation: [1, 2], padding: [0, 1, 2, 0] };
    for (window, x, weights, groups) in [
        (Window::square(1, 1, 0), [2, 2, 3, 4], [3, 1, 1, 4], 1),
        (Window::square(3, 1, 1), [1, 3, 4, 2], [3, 3, 3, 2], 1),
        (Window::square(3, 2, 1), [2, 4, 3, 2], [4, 3, 3, 1], 2),
        (Window::square(1, 2, 0), [2, 3, 4, 2], [3, 1, 1, 2], 1),
        (uneven, [1, 4, 6, 2], [2, 2, 3, 2], 1),
        (Window::square(3, 1, 1), [2, 3, 3, 3], [3, 3, 3, 1], 3),
        (Window::square(3, 2, 1), [1, 4, 5, 2], [2, 3, 3, 1], 2),
    ] {
        let op = |graph: &mut Graph, p: &[TensorId]| graph.conv(p[0], p[1], window, groups);
        check(&format!("{window:?} in {groups} groups"), &[&x, &weights], op);
    }
}

#[test]
fn pools_by_image() {
    for window in [Window::square(2, 2, 0), Window::square(3, 2, 1), Window::square(2, 1, 0)] {
        let max = |graph: &mut Graph, p: &[TensorId]| graph.max_pool(p[0], window);
        check(&format!("max of {window:?}"), &[&[2, 4, 5, 3]], max);
        for count_padding in [false, true] {
            let mean =
                |graph: &mut Graph, p: &[TensorId]| graph.average_pool(p[0], window, count_padding);
            check(&format!("mean of {window:?}, {count_padding}"), &[&[2, 4, 5, 3]], mean);
        }
    }
    let all = |graph: &mut Graph, p: &[TensorId]| graph.global_average_pool(p[0]);
    check("mean of all", &[&[2, 3, 4, 5]], all);
}

#[test]
fn batch_norm_by_image_and_factors() {
    let config = BatchNormConfig { eps: 1e-3, ..BatchNormConfig::default() };
    let shapes: [&[usize]; 5] = [&[2, 2, 3, 4], &[4], &[4], &[2, 2, 3, 4], &[4]];
    let by_batch = |graph: &mut Graph, p: &[TensorId]| {
        let y = graph.batch_norm(p[0], [p[1], p[2]], None, config)?;
        // What is fused behind it.
        let y = graph.plus(y, p[3])?;
        let y = graph.mul(y, p[4])?;
        graph.map(Stage::Tanh, y)
    };
    check("by the batch", &shapes, by_batch);
    let fixed = |graph: &mut Graph, p: &[TensorId]| {
        // Far from zero, where a difference of finite steps is off by the curve of 1 / √variance.
        let square = graph.map(Stage::Square, p[4])?;
        let variance = graph.affine(square, 1.0, 0.5)?;
        graph.fixed_batch_norm(p[0], [p[1], p[2]], [p[3], variance], config.eps)
    };
    check("fixed", &[&[3, 2, 4], &[4], &[4], &[4], &[4]], fixed);
}

#[test]
fn activations_of_convolutional_networks() {
    for stage in [Stage::Relu6, Stage::HardSwish, Stage::Silu] {
        let op = |graph: &mut Graph, p: &[TensorId]| {
            let wide = graph.affine(p[0], 5.0, 0.3)?;
            graph.map(stage, wide)
        };
        check(&format!("{stage:?}"), &[&[7, 9]], op);
    }
}

/// Channels at a mean of 10,000 and a standard deviation of about 1 keep their digits, both ways.
#[test]
fn batch_norm_far_from_zero() {
    let (rows, channels) = (600, 6);
    let (mut graph, p) =
        graph_of(&[&[rows, channels], &[channels], &[channels], &[rows, channels]]);
    let config = BatchNormConfig::default();
    let y = graph.batch_norm(p[0], [p[1], p[2]], None, config).unwrap();
    graph.output("y", y);
    let product = graph.mul(y, p[3]).unwrap();
    let gradients = differentiate(&mut graph, &[product], &p[..3]).unwrap();
    for (name, gradient) in ["dx", "dweight", "dbias"].into_iter().zip(gradients) {
        graph.output(name, gradient);
    }
    let far = random(rows * channels, 1).into_iter().map(|v| f64::from((1e4 + 1.7 * v) as f32));
    let values =
        [far.collect(), random(channels, 2), random(channels, 3), random(rows * channels, 4)];
    let made = |device: &mut dyn Device| {
        let mut session = session(device, &graph, Options::default());
        session.set_all(0, &values).unwrap();
        session.run(&StepState::default(), &[]).unwrap();
        ["y", "dx", "dweight", "dbias"].map(|name| session.output(name).unwrap())
    };
    let expected = made(&mut oracle());
    for device in &mut devices() {
        let found = made(&mut **device);
        for ((found, expected), what) in found.iter().zip(&expected).zip(["y", "dx", "dw", "db"]) {
            let what = format!("{what} on {}", device.info().name);
            assert_close(&what, found, expected, 1e-11);
        }
    }
}

/// Whole numbers up to 2^24 are all that f32 has: indices beyond are exact.
#[test]
fn an_image_of_more_elements_than_f32_counts() {
    let conv = Conv {
        window: Window::square(3, 61, 1),
        images: 1,
        size: [4127, 4099],
        inputs: 1,
        outputs: 2,
        groups: 1,
    };
    let kernel: Arc<dyn Kernel> = Arc::new(conv.forward());
    let operands = kernel.operands();
    assert!(operands[0].len > 1 << 24);
    let data = vec![
        Data::Floats(random(operands[0].len, 1)),
        Data::Floats(random(operands[1].len, 2)),
        Data::Unwritten,
    ];
    let expected = run_kernel(&mut oracle(), &kernel, &StepState::default(), &data).unwrap();
    for device in &mut devices() {
        let found = run_kernel(&mut **device, &kernel, &StepState::default(), &data).unwrap();
        let what = format!("a large image on {}", device.info().name);
        assert_close(&what, &found[0], &expected[0], 1e-12);
    }
}

const ROWS: usize = 6;
const STEPS: usize = 3;
const CLASSES: usize = 5;

/// The model of a fixture, read from a folder as PyTorch would have saved it, and its values.
fn model(file: &Fixtures, pre_activation: bool) -> (ModelConfig, Vec<Vec<f32>>) {
    let folder = tempfile::tempdir().unwrap();
    let all = file.file();
    let counter = TensorView::new(safetensors::Dtype::I64, Vec::new(), &[3, 0, 0, 0, 0, 0, 0, 0]);
    let named = all.tensors().into_iter();
    let mut tensors: Vec<(String, TensorView<'_>)> = named
        .filter_map(|(name, tensor)| Some((name.strip_prefix("start.")?.to_owned(), tensor)))
        .collect();
    tensors.push(("bn1.num_batches_tracked".to_owned(), counter.unwrap()));
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(folder.path().join(models::WEIGHTS), bytes).unwrap();
    let config = serde_json::json!({
        "model_type": "resnet", "stem": "3x3", "num_channels": 2, "image_size": [9, 8], "embedding_size": 6,
        "hidden_sizes": [6, 8, 12], "depths": [1, 1, 1], "pre_activation": pre_activation, "num_classes": CLASSES,
        "class_names": ["a", "b", "c", "d", "e"], "normalisation": { "mean": [0.0], "std": [1.0] },
    });
    fs::write(folder.path().join(models::CONFIG), config.to_string()).unwrap();
    models::load(folder.path()).unwrap()
}

/// Losses of the steps, all parameters behind them, and logits of one more batch by the running statistics.
fn train(
    device: &mut dyn Device,
    file: &Fixtures,
    (config, start): &(ModelConfig, Vec<Vec<f32>>),
) -> [Vec<f64>; 3] {
    let update = OptimizerConfig {
        rule: Rule::Sgd { momentum: 0.875, nesterov: false },
        weight_decay: 5e-4,
        clip: None,
        max_norm: None,
    };
    let layout = Layout::new(config.model().parameters()).unwrap();
    let forward = |training: bool| {
        let mut graph = Graph::new(vec![layout.clone()]);
        let inputs = config.input.of_graph(&mut graph, "", BatchShape::of_numbers(ROWS));
        let outputs = config.model().forward(&mut graph, 0, &inputs, training).unwrap();
        let logits = outputs.logits().unwrap();
        (graph, logits)
    };
    let (mut graph, logits) = forward(true);
    let labels = graph.input("labels", &[ROWS], DType::I32);
    let (loss, _) = graph.distill_loss(logits, labels, None, CLASSES).unwrap();
    graph.output("loss", loss);
    let update = Update::from(update);
    let all = parameters(&mut graph, 0);
    let learning: Vec<TensorId> =
        update.trained(&layout.parameters).into_iter().map(|index| all[index]).collect();
    let gradients = differentiate(&mut graph, &[loss], &learning).unwrap();
    graph.optimize(0, &gradients, update).unwrap();

    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let (inputs, labels) = (narrow(&file.floats("inputs")), file.integers("labels"));
    let len = config.input.len();
    let (losses, end) = {
        let mut session = session(device, &graph, Options::default());
        session.set_all(0, &start.iter().map(|v| wide(v)).collect::<Vec<_>>()).unwrap();
        let mut losses = Vec::new();
        for (step, labels) in labels.chunks(ROWS).enumerate() {
            let state = StepState {
                step: step as u32,
                learning_rate: 0.125,
                hard_scale: 1.0 / ROWS as f32,
                ..StepState::default()
            };
            let pixels = &inputs[step * ROWS * len..][..ROWS * len];
            let given =
                [("features", HostTensor::F32(pixels)), ("labels", HostTensor::I32(labels))];
            session.run(&state, &given).unwrap();
            losses.push(session.output("loss").unwrap().iter().sum::<f64>());
        }
        (losses, session.all(0, Part::Parameters).unwrap())
    };
    let (mut graph, logits) = forward(false);
    graph.output("logits", logits);
    let mut session = session(device, &graph, Options::default());
    let mut rest = &end[..];
    let values: Vec<Vec<f64>> = start
        .iter()
        .map(|values| {
            let (own, others) = rest.split_at(values.len());
            rest = others;
            own.to_vec()
        })
        .collect();
    session.set_all(0, &values).unwrap();
    let pixels = &inputs[STEPS * ROWS * len..];
    session.run(&StepState::default(), &[("features", HostTensor::F32(pixels))]).unwrap();
    [losses, end, session.output("logits").unwrap()]
}

#[test]
fn residual_networks_follow_pytorch() {
    for (name, pre_activation) in [("resnet", false), ("resnet-pre-activation", true)] {
        let file = Fixtures::open(&format!("{name}.safetensors"));
        let model = model(&file, pre_activation);
        let specs = model.0.model().parameters();
        let statistics: usize =
            specs.iter().filter(|spec| !spec.learns()).map(|spec| spec.len()).sum();
        let mut expected: Vec<f64> = Vec::new();
        for spec in &specs {
            let values = file.floats(&format!("end.{}", spec.name));
            expected.extend(match spec.shape[..] {
                [outputs, down, across, inputs] => {
                    let taps = down * across;
                    (0..outputs * taps * inputs)
                        .map(|at| {
                            let (tap, input) = (at / inputs % taps, at % inputs);
                            values[(at / inputs / taps * inputs + input) * taps + tap]
                        })
                        .collect()
                }
                _ => values,
            });
        }
        let mut devices = devices();
        devices.insert(0, Box::new(oracle()));
        for device in &mut devices {
            let [losses, end, logits] = train(&mut **device, &file, &model);
            let what = format!("{name} on {}", device.info().name);
            let error = max_error(&losses, &file.floats("losses"));
            println!("{error:9.1e}  losses of {what}");
            assert!(error < 1e-5, "{what}: {error}");
            let running = end.len() - statistics;
            for (part, range) in [("weights", 0..running), ("statistics", running..end.len())] {
                let error = max_error(&end[range.clone()], &expected[range]);
                println!("{error:9.1e}  {part} of {what}");
                assert!(error < 1e-4, "{part} of {what}: {error}");
            }
            assert_close(&format!("logits of {what}"), &logits, &file.floats("logits"), 1e-8);
        }
    }
}

#[test]
fn a_saved_network_is_the_one_that_was_read() {
    let file = Fixtures::open("resnet.safetensors");
    let (config, values) = model(&file, false);
    let folder = tempfile::tempdir().unwrap();
    models::save(folder.path(), &config, &values).unwrap();
    assert_eq!(models::load(folder.path()).unwrap(), (config, values));
    let bytes = fs::read(folder.path().join(models::WEIGHTS)).unwrap();
    let saved = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in file.file().tensors() {
        if let Some(name) = name.strip_prefix("start.") {
            let own = saved.tensor(name).unwrap();
            assert_eq!((own.shape(), own.data()), (tensor.shape(), tensor.data()), "{name}");
        }
    }
    let counter = saved.tensor("layer2.0.downsample.1.num_batches_tracked").unwrap();
    assert_eq!((counter.dtype(), counter.shape()), (safetensors::Dtype::I64, &[][..]));
    let preprocessor = fs::read_to_string(folder.path().join("preprocessor_config.json")).unwrap();
    let preprocessor: serde_json::Value = serde_json::from_str(&preprocessor).unwrap();
    assert_eq!(preprocessor["image_mean"], serde_json::json!([0.0, 0.0]));
    assert_eq!(preprocessor["size"], serde_json::json!({ "height": 9, "width": 8 }));
}
