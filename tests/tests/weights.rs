//! A teacher whose matrices are stored in f16 or less: the same answers on every device, near to those of f32, in a part of
//! the memory; students that do not learn from it stay as they are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use distil_gpu_engine::Error;
use distil_gpu_engine::device::{CpuDevice, Device, HostTensor};
use distil_gpu_engine::models::{self, BatchShape, HostBatch, ModelConfig};
use distil_gpu_engine::objective::{forward_plan_in, frozen_store};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::results::ArmReport;
use distil_gpu_engine::run::{Begin, Run, Silent, prepare, run};
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Layout, Storage};
use distil_gpu_engine::verify::{made_up, made_up_length};
use distil_gpu_kernels::StepState;
use distil_gpu_tests::{assert_close, devices, nmse, oracle};

/// Folders of an encoder of each family, and of each head.
const MODELS: [&str; 3] = ["bert", "distilbert", "roberta"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Logits of made-up examples.
fn logits(
    device: &mut dyn Device,
    config: &ModelConfig,
    values: &[Vec<f32>],
    storage: Storage,
) -> Vec<f64> {
    let shape = BatchShape { rows: 5, length: made_up_length(&config.input), guessed: 0 };
    let plan = forward_plan_in(config, storage, shape).unwrap();
    let layout = Layout::stored(config.model().parameters(), storage).unwrap();
    let mut session = Session::new(device, plan, [layout]).unwrap();
    let exact = |values: &Vec<f32>| values.iter().map(|&value| f64::from(value)).collect();
    let all: Vec<Vec<f64>> = values.iter().map(exact).collect();
    session.set_all(0, &all).unwrap();
    let mut batch = HostBatch::default();
    made_up(&config.input, shape, 3, &mut batch);
    let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
    session.run(&StepState::default(), &inputs).unwrap();
    session.output("logits").unwrap()
}

#[test]
fn logits_are_those_of_rounded_weights_on_every_device() {
    for name in MODELS {
        let (config, values) = models::load(&folder(name)).unwrap();
        let exact = logits(&mut oracle(), &config, &values, Storage::F32);
        // A weight in f16 is off by 2^-12 of itself at most, and half as much in the mean: an NMSE of some 1e-8, which the
        // layers add up. bf16 has three bits less: 64 times that.
        for (storage, range) in [(Storage::F16, 1e-10..1e-6), (Storage::BF16, 1e-8..1e-4)] {
            let expected = logits(&mut oracle(), &config, &values, storage);
            for device in &mut devices() {
                let found = logits(&mut **device, &config, &values, storage);
                let what = format!("{name} in {} on {}", storage.name(), device.info().name);
                assert_close(&what, &found, &expected, 1e-11);
            }
            let error = nmse(&expected, &exact);
            assert!(range.contains(&error), "{name} in {}: {error:e}", storage.name());
        }
    }
}

#[test]
fn matrices_take_half_the_memory() {
    let (config, values) = models::load(&folder("bert")).unwrap();
    for device in &mut devices() {
        let mut bytes = |storage| {
            let before = device.stats().bytes;
            let store = frozen_store(&mut **device, &config, &values, storage).unwrap();
            let bytes = device.stats().bytes - before;
            store.free(&mut **device);
            assert_eq!(device.stats().bytes, before);
            bytes
        };
        let (whole, half) = (bytes(Storage::F32), bytes(Storage::F16));
        let matrices = config.model().parameters().into_iter().filter(|spec| spec.shape.len() > 1);
        let saved: usize = matrices.map(|spec| 2 * spec.len()).sum();
        // Parameters start at multiples of 256 bytes either way.
        assert!((whole - half).abs_diff(saved as u64) < 256 * values.len() as u64);
    }
}

const RECIPE: &str = r#"
[data]
source = "embedded"
train_limit = 400
test_limit = 200
[teacher]
model = { type = "mlp", hidden_sizes = [64, 64] }
[student]
model = { type = "mlp", hidden_sizes = [16] }
[train]
epochs = 3
batch = 50
"#;

fn recipe(out: &Path, sets: &[&str]) -> Recipe {
    let mut all = vec![format!("out={:?}", out.display().to_string())];
    all.extend(sets.iter().map(|set| (*set).to_owned()));
    Recipe::parse_with(RECIPE, "small.toml", &all).unwrap()
}

fn ran(device: &mut dyn Device, out: &Path, sets: &[&str]) -> Run {
    run(prepare(&recipe(out, sets), Begin::New).unwrap(), device, &mut Silent).unwrap()
}

#[test]
fn only_what_is_learnt_from_the_teacher_changes() {
    let place = tempfile::tempdir().unwrap();
    let of = |weights: &str| {
        let out = place.path().join(weights);
        ran(&mut CpuDevice::<f32>::new(), &out, &[&format!("teacher.weights={weights}")])
    };
    let whole = of("f32");
    for weights in ["f16", "bf16", "q8_0"] {
        only_the_student_changes(&whole, &of(weights));
    }
}

fn only_the_student_changes(whole: &Run, half: &Run) {
    let model = |run: &Run, arm: &str| {
        std::fs::read(run.folder.join(arm).join("model.safetensors")).unwrap()
    };
    // The teacher is trained and saved in f32, and the student alone never meets it.
    for arm in ["teacher", "control"] {
        assert!(model(whole, arm) == model(half, arm), "{arm}");
    }
    assert!(model(whole, "student") != model(half, "student"));
    let near = |a: f64, b: f64| (a - b).abs() <= 0.02;
    let score = |arm: &ArmReport| arm.scores.get("accuracy").unwrap();
    assert!(near(score(&whole.report.arms.distilled), score(&half.report.arms.distilled)));
    let [theirs, ours] = [whole, half].map(|run| run.report.arms.teacher.as_ref().unwrap());
    assert!(near(score(theirs), score(ours)));
}

#[test]
fn a_value_beyond_f16_is_named() {
    let place = tempfile::tempdir().unwrap();
    let first = ran(&mut CpuDevice::<f32>::new(), &place.path().join("first"), &[]);
    let teacher = first.folder.join("teacher");
    let (config, mut values) = models::load(&teacher).unwrap();
    // A bias stays in f32.
    values[1][2] = 70_000.0;
    models::save(&teacher, &config, &values).unwrap();
    let from = format!("teacher={{folder={:?}, weights=\"f16\"}}", teacher.display().to_string());
    let out = place.path().join("second");
    ran(&mut CpuDevice::<f32>::new(), &out, &[&from]);
    values[2][7] = -65_520.0;
    models::save(&teacher, &config, &values).unwrap();
    let again = recipe(&place.path().join("third"), &[&from]);
    let error = prepare(&again, Begin::New).unwrap_err();
    let message =
        "`layers.1.weight` holds -65520, and f16 ends at 65504: set `teacher.weights` to \"f32\"";
    assert_eq!(error.to_string(), message);
    // One that is trained is refused when it is to teach, and nothing of it stays on the device.
    for device in &mut devices() {
        let before = device.stats().bytes;
        let error = frozen_store(&mut **device, &config, &values, Storage::F16).unwrap_err();
        assert!(matches!(error, Error::BeyondF16 { .. }), "{error}");
        assert_eq!(device.stats().bytes, before);
    }
}
