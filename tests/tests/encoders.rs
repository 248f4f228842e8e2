//! Encoders of the BERT family against Hugging Face transformers; see tools/make_encoder_fixtures.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use distil_gpu_engine::data::{Dataset, Examples, Normalisation, Text, Texts};
use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::distill::{TeacherInput, forward_plan, training_plan};
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::models::{self, BatchShape, Feed, HostBatch, Input, ModelConfig, Start};
use distil_gpu_engine::recipe;
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
        Self(std::fs::read(folder(family).join("expected.safetensors")).unwrap())
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
        let shape = BatchShape { rows: rows.len(), length };
        let mut batch = HostBatch::default();
        batch.texts(input, shape, &rows);
        *batch.integers("labels", 0) = self.integers("labels");
        (batch, shape)
    }
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
        let (mut config, values) = models::load(&folder(family)).unwrap();
        let models::Architecture::Encoder(encoder) = &mut config.architecture else {
            panic!("{family} is an encoder")
        };
        (encoder.hidden_dropout, encoder.attention_dropout) = (0.0, 0.0);
        encoder.classifier_dropout = 0.0;
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
    let feed = Feed::new(&config.input, examples).unwrap();
    let all: Vec<u32> = (0..examples.len() as u32).collect();
    let shape = feed.shape(&all, all.len());
    let mut batch = HostBatch::default();
    feed.fill(&all, shape, None, &mut batch);
    let mut device = oracle();
    let mut session = session(&mut device, config, forward_plan(config, shape).unwrap(), values);
    let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
    session.run(&StepState::default(), &inputs).unwrap();
    session.output("logits").unwrap()
}

#[test]
fn a_trimmed_vocabulary_changes_no_answer_to_the_training_texts() {
    let texts = ["Good films, the bad!", "a bad film"]
        .map(|text| Text { first: text.to_owned(), second: None });
    let examples = Texts::new(texts.to_vec()).unwrap();
    for family in FAMILIES {
        let (config, values) = models::load(&folder(family)).unwrap();
        let data = Dataset::new(examples.clone(), vec![0, 1], config.class_names.clone()).unwrap();
        let model = recipe::Model::Encoder {
            from: folder(family),
            layers: None,
            vocabulary: recipe::Vocabulary::Trimmed,
            max_length: None,
            dropout: None,
        };
        let start =
            Start::of(&model, recipe::Task::Classification, &data, &Normalisation::identity())
                .unwrap();
        let trimmed: Vec<_> = start.parameters.into_iter().map(Option::unwrap).collect();
        assert!(trimmed[0].len() < values[0].len(), "{family}: a token less");
        assert_eq!(
            logits(&start.config, &trimmed, data.examples()),
            logits(&config, &values, data.examples()),
            "{family}"
        );
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &start.config, &trimmed).unwrap();
        assert!(models::load(copy.path()).unwrap() == (start.config, trimmed), "{family}");
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
        let feed = Feed::new(&config.input, &examples).unwrap();
        assert_eq!(feed.tokens().row(1).0, [2, 5, 7, 8, 36, 39, 6, 37, 3], "{family}");
    }
}
