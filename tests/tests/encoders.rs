//! Encoders of the BERT family against Hugging Face transformers; see tools/make_encoder_fixtures.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use distil_gpu_engine::Error;
use distil_gpu_engine::data::{Dataset, Examples, Normalisation, Text, Texts};
use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::models::{
    self, BatchEncoder, BatchShape, Draw, Head, HostBatch, Initialization, Input, ModelConfig,
};
use distil_gpu_engine::objective::{TeacherInput, forward_plan, training_plan};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::Layout;
use distil_gpu_kernels::StepState;
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_tests::{assert_close, devices, oracle};
use safetensors::{Dtype, SafeTensors};

const FAMILIES: [&str; 3] = ["bert", "distilbert", "roberta"];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(family)
}

/// What transformers computed.
struct Expected(Vec<u8>);

impl Expected {
    fn of(family: &str) -> Self {
        Self::read(family, "expected.safetensors")
    }

    fn read(family: &str, name: &str) -> Self {
        Self(std::fs::read(folder(family).join(name)).unwrap())
    }

    fn integers(&self, name: &str) -> Vec<i32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data())
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F64);
        bytemuck::pod_collect_to_vec(tensor.data())
    }

    /// The batch, padded to `length`, and its labels.
    fn batch(&self, config: &ModelConfig, length: usize) -> (HostBatch, BatchShape) {
        let Input::Tokens(input) = &config.input else { panic!("an encoder reads tokens") };
        let [tokens, types, lengths] = ["tokens", "types", "lengths"].map(|n| self.integers(n));
        let width = tokens.len() / lengths.len();
        let row = |(row, &length): (usize, &i32)| {
            let range = row * width..row * width + length as usize;
            (&tokens[range.clone()], &types[range])
        };
        let rows: Vec<_> = lengths.iter().enumerate().map(row).collect();
        let shape = BatchShape { rows: rows.len(), length, guessed: 0 };
        let mut batch = HostBatch::default();
        batch.texts(input, shape, &rows);
        *batch.integers("labels", 0) = self.integers("labels");
        (batch, shape)
    }
}

/// A model as it is saved, but without dropout.
fn without_dropout(family: &str) -> (ModelConfig, Vec<Vec<f32>>) {
    let (mut config, values) = models::load(&folder(family)).unwrap();
    let models::Architecture::Encoder(encoder) = &mut config.architecture else {
        panic!("{family} is an encoder")
    };
    (encoder.hidden_dropout, encoder.attention_dropout) = (0.0, 0.0);
    encoder.classifier_dropout = 0.0;
    (config, values)
}

fn session<'a>(
    device: &'a mut dyn Device,
    config: &ModelConfig,
    plan: distil_gpu_engine::plan::Plan,
    values: &[Vec<f32>],
) -> Session<'a> {
    let layout = Layout::new(config.model().parameters()).unwrap();
    let mut session = Session::new(device, plan, [layout]).unwrap();
    for (index, values) in values.iter().enumerate() {
        let exact: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        session.set(0, index, &exact).unwrap();
    }
    session
}

#[test]
fn logits_are_those_of_transformers() {
    for family in FAMILIES {
        let expected = Expected::of(family);
        let (config, values) = models::load(&folder(family)).unwrap();
        let mut devices = devices();
        devices.push(Box::new(oracle()));
        for device in &mut devices {
            // Padding changes nothing.
            let (batch, shape) = expected.batch(&config, 12);
            let plan = forward_plan(&config, shape).unwrap();
            let mut session = session(&mut **device, &config, plan, &values);
            let inputs: Vec<(&str, HostTensor<'_>)> =
                batch.inputs().filter(|(name, _)| *name != "labels").collect();
            session.run(&StepState::default(), &inputs).unwrap();
            let found = session.output("logits").unwrap();
            let name = session.device.info().name.clone();
            for (found, expected) in found.iter().zip(expected.floats("logits")) {
                let error = (found - expected).abs();
                assert!(error < 1e-5, "{family} on {name}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_transformers() {
    for family in FAMILIES {
        let expected = Expected::of(family);
        let (config, values) = without_dropout(family);
        let (batch, shape) = expected.batch(&config, 9);
        // One step of plain descent at rate 1 takes the gradient away from each parameter.
        let descent = OptimizerConfig {
            rule: Rule::Sgd { momentum: 0.0, nesterov: false },
            weight_decay: 0.0,
            clip: None,
            max_norm: None,
        };
        let plan = training_plan(&config, TeacherInput::None, shape, descent).unwrap();
        let mut device = oracle();
        let mut session = session(&mut device, &config, plan, &values);
        let third = 1.0 / shape.rows as f32;
        let state = StepState { learning_rate: 1.0, hard_scale: third, ..StepState::default() };
        let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
        session.run(&state, &inputs).unwrap();
        for (index, spec) in config.model().parameters().iter().enumerate() {
            let after = session.part(0, distil_gpu_engine::store::Part::Parameters, index).unwrap();
            let gradient: Vec<f64> = values[index]
                .iter()
                .zip(after)
                .map(|(&before, after)| f64::from(before) - after)
                .collect();
            let theirs = expected.floats(&format!("gradient.{}", spec.name));
            // A key's bias moves all scores of a query alike: its gradient is rounding.
            let largest = theirs.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            if largest < 1e-12 {
                assert!(gradient.iter().all(|value| value.abs() < 1e-7), "{family}: {}", spec.name);
                continue;
            }
            // The scale of the mean is an f32 third.
            assert_close(&format!("{family}: {}", spec.name), &gradient, &theirs, 1e-13);
        }
    }
}

/// The logits of these examples.
fn logits(config: &ModelConfig, values: &[Vec<f32>], examples: &Examples) -> Vec<f64> {
    let feed = BatchEncoder::new(&config.input, examples).unwrap();
    let all: Vec<u32> = (0..examples.len() as u32).collect();
    let shape = feed.shape(&all, all.len());
    let mut batch = HostBatch::default();
    feed.fill(&all, shape, Draw::FIXED, &mut batch);
    let mut device = oracle();
    let mut session = session(&mut device, config, forward_plan(config, shape).unwrap(), values);
    let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
    session.run(&StepState::default(), &inputs).unwrap();
    session.output("logits").unwrap()
}

/// Two texts of the fixtures' words.
fn two_texts(class_names: &[String]) -> Dataset {
    let texts = ["Good films, the bad!", "a bad film"]
        .map(|text| Text { first: text.to_owned(), second: None });
    Dataset::new(Texts::new(texts.to_vec()).unwrap(), vec![0, 1], class_names.to_vec()).unwrap()
}

/// The model of a recipe with these keys beside `from`, which is the family's folder, for two texts.
fn started(family: &str, keys: &str) -> Result<(ModelConfig, models::Values), Error> {
    let text = format!(
        "[data]\nsource = \"embedded\"\n[teacher]\nlogits = \"z\"\n[train]\nsteps = 1\n[student]\n\
         model = {{ type = \"encoder\", from = {:?}{keys} }}",
        folder(family)
    );
    let model = Recipe::parse(&text, "/a.toml")?.student.model;
    let data = two_texts(&models::load_config(&folder(family))?.class_names);
    let start = Initialization::of(
        &model,
        Head::Classes(data.classes()),
        &data,
        &Normalisation::identity(),
        None,
    )?;
    let values = start.first.values(Path::new("no teacher"))?.into_owned();
    Ok((start.config, values))
}

#[test]
fn a_trimmed_vocabulary_changes_no_answer_to_the_training_texts() {
    for family in FAMILIES {
        let (config, values) = models::load(&folder(family)).unwrap();
        let data = two_texts(&config.class_names);
        let (trimmed, rows) = started(family, ", vocabulary = \"trimmed\"").unwrap();
        let rows: Vec<_> = rows.into_iter().map(Option::unwrap).collect();
        assert!(rows[0].len() < values[0].len(), "{family}: a token less");
        assert_eq!(
            logits(&trimmed, &rows, data.examples()),
            logits(&config, &values, data.examples()),
            "{family}"
        );
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &trimmed, &rows).unwrap();
        assert!(models::load(copy.path()).unwrap() == (trimmed, rows), "{family}");
    }
}

/// Units of the feed-forward layers that do nothing can be left out; layers and columns are found where they were.
#[test]
fn narrower_students_take_the_first_rows_and_columns() {
    for family in FAMILIES {
        let (config, values) = models::load(&folder(family)).unwrap();
        let specs = config.model().parameters();
        let keys = ", layers = \"alternate\", hidden_size = 16, intermediate_size = 24";
        let (narrow, taken) = started(family, keys).unwrap();
        let models::Architecture::Encoder(encoder) = &narrow.architecture else {
            panic!("{family} is an encoder")
        };
        let sizes = (encoder.num_hidden_layers, encoder.num_attention_heads);
        assert_eq!(sizes, (1, 2), "heads stay 8 wide");
        for (spec, taken) in narrow.model().parameters().iter().zip(&taken) {
            let place = specs.iter().position(|old| old.name == spec.name).unwrap();
            let columns = |shape: &[usize]| shape.get(1).copied().unwrap_or(1);
            let (wide, few) = (columns(&specs[place].shape), columns(&spec.shape));
            let rows = values[place].chunks(wide).take(spec.shape[0]);
            let wanted: Vec<f32> = rows.flat_map(|row| &row[..few]).copied().collect();
            assert_eq!(taken.as_ref(), Some(&wanted), "{family}: {}", spec.name);
        }
        let data = two_texts(&config.class_names);
        let values: Vec<_> = taken.into_iter().map(Option::unwrap).collect();
        let found = logits(&narrow, &values, data.examples());
        assert!(found.len() == 6 && found.iter().all(|logit| logit.is_finite()), "{family}");
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for (keys, wanted) in [
        ("layers = [0, 2]", "it has no layer 2, but 2 layers, counted from 0"),
        ("hidden_size = 32", "its hidden_size is 24, and what starts from it can have no more: 32"),
        ("intermediate_size = 41", "its intermediate_size is 40, and what starts"),
        ("num_attention_heads = 4", "its num_attention_heads is 3, and what starts"),
        ("hidden_size = 20", "its heads are 8 wide: give a hidden_size that is a multiple of 8"),
        (
            "num_attention_heads = 2, hidden_size = 15",
            "num_attention_heads that 15 is a multiple of",
        ),
    ] {
        let error = started("bert", &format!(", {keys}")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn texts_and_saved_models_are_read_again() {
    for family in FAMILIES {
        let (config, values) = models::load(&folder(family)).unwrap();
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &config, &values).unwrap();
        let (again, same) = models::load(copy.path()).unwrap();
        assert!(again == config && same == values, "{family}");

        let text = Text { first: "Good films, the bad!".to_owned(), second: None };
        let examples = Examples::from(Texts::new(vec![text; 2]).unwrap());
        let feed = BatchEncoder::new(&config.input, &examples).unwrap();
        assert_eq!(feed.tokens().row(1).0, [2, 5, 7, 8, 36, 39, 6, 37, 3], "{family}");
    }
}

#[test]
fn fine_tuning_follows_pytorch() {
    // AdamW's first steps take the sign of gradients that may be all rounding.
    const ROUNDED: f64 = 1e-3;
    // Learning rate and scale of the mean are f32.
    const EXACT: f64 = 1e-6;
    const SHAPE: BatchShape = BatchShape { rows: 8, length: 12, guessed: 0 };
    let expected = Expected::read("bert", "training.safetensors");
    let (config, values) = without_dropout("bert");
    let Input::Tokens(input) = &config.input else { panic!("an encoder reads tokens") };
    let adamw = OptimizerConfig {
        rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        weight_decay: 0.05,
        clip: None,
        max_norm: None,
    };
    let [tokens, lengths, labels] = ["tokens", "lengths", "labels"].map(|n| expected.integers(n));
    let losses = |device: &mut dyn Device| {
        let plan = training_plan(&config, TeacherInput::None, SHAPE, adamw).unwrap();
        let mut session = session(device, &config, plan, &values);
        let (mut losses, mut sum) = (Vec::new(), 0.0);
        for step in 0..50 {
            let batch = step as usize % 2 * SHAPE.rows;
            let tokens = &tokens[batch * SHAPE.length..][..SHAPE.rows * SHAPE.length];
            let lengths = &lengths[batch..][..SHAPE.rows];
            let labels = &labels[batch..][..SHAPE.rows];
            let zeros = [0; SHAPE.length];
            let rows: Vec<_> = (tokens.chunks(SHAPE.length).zip(lengths))
                .map(|(row, &length)| (&row[..length as usize], &zeros[..length as usize]))
                .collect();
            let mut batch = HostBatch::default();
            batch.texts(input, SHAPE, &rows);
            *batch.integers("labels", 0) = labels.to_vec();
            let correction = |beta: f64| (1.0 - beta.powi(step + 1)) as f32;
            let state = StepState {
                step: step as u32,
                learning_rate: 2e-3,
                hard_scale: 1.0 / SHAPE.rows as f32,
                bias_correction1: correction(0.9),
                bias_correction2: correction(0.999),
                ..StepState::default()
            };
            let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
            session.run(&state, &inputs).unwrap();
            // The store's metrics are sums over all steps so far.
            let before = std::mem::replace(&mut sum, session.metrics(0).unwrap()[1]);
            losses.push((sum - before) / SHAPE.rows as f64);
        }
        losses
    };
    let theirs = expected.floats("losses");
    let worst = |found: Vec<f64>| {
        let errors = found.iter().zip(&theirs).map(|(found, theirs)| (found / theirs - 1.0).abs());
        errors.fold(0.0, f64::max)
    };
    assert!(theirs[49] < 0.8 * theirs[0], "nothing was learnt: {theirs:?}");
    let error = worst(losses(&mut oracle()));
    assert!(error < EXACT, "in f64: {error}");
    for device in &mut devices() {
        let error = worst(losses(&mut **device));
        println!("{error:9.1e}  losses on {}", device.info().name);
        assert!(error < ROUNDED, "{}: {error}", device.info().name);
    }
}
