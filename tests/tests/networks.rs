//! MobileNetV2 and EfficientNet-lite against timm, whose weights follow from a formula; see tests/fixtures/README.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use distil_gpu_engine::Error;
use distil_gpu_engine::device::{CpuDevice, Device, HostTensor};
use distil_gpu_engine::graph::Graph;
use distil_gpu_engine::models::{self, Architecture, BatchShape, ModelConfig};
use distil_gpu_engine::plan::Options;
use distil_gpu_engine::store::{Layout, ParameterSpec};
use distil_gpu_kernels::StepState;
use distil_gpu_tests::{Fixtures, assert_close, devices, narrow, oracle, session};
use safetensors::tensor::TensorView;
use serde_json::json;

const NAMES: [&str; 5] = [
    "mobilenetv2_035",
    "mobilenetv2_140",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite2",
];
const ROWS: usize = 2;

/// A parameter's shape in files, and its values there.
fn in_file(spec: &ParameterSpec) -> (Vec<usize>, Vec<f32>) {
    let shape = match spec.shape[..] {
        [outputs, down, across, inputs] => vec![outputs, inputs, down, across],
        _ => spec.shape.clone(),
    };
    let (name, count) = (&spec.name, spec.len());
    let fan_in = (count / shape[0]) as f64;
    let is_vector = shape.len() == 1;
    let is_scale = name.ends_with("weight") || name.ends_with("running_var");
    let value = |at: usize| {
        let spread = ((at * 7919 + name.len() * 104_729) % 2003) as f64 / 2003.0 - 0.5;
        match (is_vector, is_scale) {
            (true, true) => 1.0 + spread / 2.0,
            (true, false) => spread / 4.0,
            (false, _) => spread * (24.0 / fan_in).sqrt(),
        }
    };
    (shape, (0..count).map(|at| value(at) as f32).collect())
}

/// Writes a configuration as timm does.
fn configure(folder: &Path, name: &str, picture: &[usize], classes: usize) {
    let config = json!({
        "architecture": name,
        "num_classes": classes,
        "num_features": 1280,
        "global_pool": "avg",
        "model_args": { "num_classes": classes, "in_chans": picture[0], "global_pool": "avg" },
        "pretrained_cfg": {
            "tag": "untrained", "input_size": picture, "fixed_input_size": false, "crop_pct": 0.875,
            "mean": vec![0.0; picture[0]], "std": vec![1.0; picture[0]], "num_classes": classes,
            "first_conv": "conv_stem", "classifier": "classifier",
        },
    });
    fs::write(folder.join(models::CONFIG), config.to_string()).unwrap();
}

/// A network of the fixtures, read from a folder.
fn network(file: &Fixtures, name: &str) -> (ModelConfig, Vec<Vec<f32>>) {
    let folder = tempfile::tempdir().unwrap();
    let shape = file.shape(&format!("{name}.inputs")).unwrap();
    let classes = file.shape(&format!("{name}.logits")).unwrap()[1];
    configure(folder.path(), name, &shape[1..], classes);
    let config = models::load_config(folder.path()).unwrap();
    let specs = config.model().parameters();
    let values = specs.iter().map(in_file).map(|(shape, values)| {
        (shape, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    });
    let values: Vec<(Vec<usize>, Vec<u8>)> = values.collect();
    let float = safetensors::Dtype::F32;
    let views = values.iter().map(|(shape, bytes)| TensorView::new(float, shape.clone(), bytes));
    let tensors = specs.iter().map(|spec| &*spec.name).zip(views.map(Result::unwrap));
    let counter = TensorView::new(safetensors::Dtype::I64, Vec::new(), &[0; 8]).unwrap();
    let tensors = tensors.chain([("bn1.num_batches_tracked", counter)]);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(folder.path().join(models::WEIGHTS), bytes).unwrap();
    models::load(folder.path()).unwrap()
}

fn logits(
    device: &mut dyn Device,
    (config, values): &(ModelConfig, Vec<Vec<f32>>),
    inputs: &[f32],
) -> Vec<f64> {
    let layout = Layout::new(config.model().parameters()).unwrap();
    let mut graph = Graph::new(vec![layout]);
    let given = config.input.of_graph(&mut graph, "", BatchShape::of_numbers(ROWS));
    let outputs = config.model().forward(&mut graph, 0, &given, false).unwrap();
    graph.output("logits", outputs.logits().unwrap());
    let mut session = session(device, &graph, Options::default());
    let wide = |values: &Vec<f32>| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    session.set_all(0, &values.iter().map(wide).collect::<Vec<_>>()).unwrap();
    session.run(&StepState::default(), &[("features", HostTensor::F32(inputs))]).unwrap();
    session.output("logits").unwrap()
}

#[test]
fn logits_are_those_of_timm() {
    let file = Fixtures::open("efficientnet.safetensors");
    for name in NAMES {
        let network = network(&file, name);
        let inputs = narrow(&file.floats(&format!("{name}.inputs")));
        let wanted = file.floats(&format!("{name}.logits"));
        // A network has a pipeline for each shape, which drivers on the processor take long to compile.
        let mut all = match name == NAMES[0] {
            true => devices(),
            false => vec![Box::new(CpuDevice::<f32>::new()) as Box<dyn Device>],
        };
        all.insert(0, Box::new(oracle()));
        for (number, device) in all.iter_mut().enumerate() {
            let found = logits(&mut **device, &network, &inputs);
            let limit = if number == 0 { 1e-18 } else { 1e-9 };
            assert_close(&format!("{name} on {}", device.info().name), &found, &wanted, limit);
        }
    }
}

#[test]
fn a_saved_network_is_the_one_that_was_read() {
    let file = Fixtures::open("efficientnet.safetensors");
    let (mut config, values) = network(&file, "mobilenetv2_035");
    config.class_names = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    let folder = tempfile::tempdir().unwrap();
    models::save(folder.path(), &config, &values).unwrap();
    let json = fs::read_to_string(folder.path().join(models::CONFIG)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["architecture"], "mobilenetv2_035");
    assert_eq!(json["label_names"], json!(["a", "b", "c", "d", "e"]));
    assert_eq!(json["model_args"], json!({ "num_classes": 5, "in_chans": 3 }));
    assert_eq!(json["pretrained_cfg"]["input_size"], json!([3, 40, 37]));
    assert_eq!(models::load(folder.path()).unwrap(), (config, values));
    let bytes = fs::read(folder.path().join(models::WEIGHTS)).unwrap();
    let saved = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(saved.tensor("blocks.1.0.conv_dw.weight").unwrap().shape(), [48, 1, 3, 3]);
    let counter = saved.tensor("blocks.1.0.bn3.num_batches_tracked").unwrap();
    assert_eq!((counter.dtype(), counter.shape()), (safetensors::Dtype::I64, &[][..]));
}

#[test]
fn configurations_that_mean_another_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(models::CONFIG);
    configure(folder.path(), "mobilenetv2_035", &[3, 32, 32], 2);
    let config = models::load_config(folder.path()).unwrap();
    assert!(matches!(config.architecture, Architecture::EfficientNet(_)));
    assert_eq!(config.class_names, ["0", "1"]);
    let text = fs::read_to_string(&path).unwrap();
    for (old, new, words) in [
        ("mobilenetv2_035", "resnet50", "its architecture `resnet50` is none of mobilenetv2_035"),
        ("\"global_pool\":\"avg\"", "\"global_pool\":\"max\"", "it pools otherwise"),
        ("\"in_chans\":3", "\"in_chans\":4", "contradict each other"),
        ("\"in_chans\":3", "\"in_chans\":3,\"drop_rate\":0.2", "its model_args set `drop_rate`"),
        ("[3,32,32]", "[3,0,32]", "a size of 0 is not possible"),
        ("[3,32,32]", "[3,32]", "not a configuration of timm"),
        ("\"num_classes\":2,\"num_features\"", "\"num_classes\":7,\"num_features\"", "contradict"),
        (
            "\"architecture\"",
            "\"label_names\":[\"a\"],\"architecture\"",
            "1 label_names for num_classes 2",
        ),
    ] {
        let changed = text.replace(old, new);
        assert_ne!(changed, text, "{old}");
        fs::write(&path, changed).unwrap();
        let error = models::load_config(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Model { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
