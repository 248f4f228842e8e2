//! Trainings: what one is made of does not change what comes of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use distil_gpu_engine::data::{Dataset, Features, Normalisation, Numbers, Text, Texts};
use distil_gpu_engine::device::Device;
use distil_gpu_engine::distill::{Arm, Checkpoints, Lesson, Silent, Trained, train};
use distil_gpu_engine::models::{self, Architecture, Input, Mlp, ModelConfig};
use distil_gpu_engine::nn::Activation;
use distil_gpu_engine::recipe::{Recipe, Train};
use distil_gpu_tests::{assert_close, devices, is_slow, narrow, random, random_labels};

/// A model and what it learns from.
struct Subject {
    name: &'static str,
    config: ModelConfig,
    start: Vec<Option<Vec<f32>>>,
    data: Dataset,
}

/// A perceptron on random numbers; the last step of an epoch is smaller than the others.
fn perceptron() -> Subject {
    let mlp = Mlp {
        input_size: 12,
        hidden_sizes: vec![20, 16],
        num_classes: 5,
        activation: Activation::Gelu,
        dropout: 0.0,
        input_dropout: 0.0,
    };
    let numbers = Numbers::new(Features::F32(narrow(&random(150 * 12, 1))), vec![12]).unwrap();
    let start = vec![None; 6];
    Subject {
        name: "MLP",
        config: ModelConfig {
            architecture: Architecture::Mlp(mlp),
            input: Input::Numbers { shape: vec![12], normalisation: Normalisation::identity() },
            class_names: (0..5).map(|class| class.to_string()).collect(),
        },
        start,
        data: Dataset::numbered(numbers, random_labels(150, 5, 2)).unwrap(),
    }
}

/// The tiny BERT of the fixtures on made-up texts of many lengths.
fn encoder() -> Subject {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert");
    let (mut config, values) = models::load(&folder).unwrap();
    let Architecture::Encoder(encoder) = &mut config.architecture else { panic!("an encoder") };
    (encoder.hidden_dropout, encoder.attention_dropout, encoder.classifier_dropout) =
        (0.0, 0.0, 0.0);
    let words = ["the", "good", "film", "bad", "films", "!", ","];
    let picks = random_labels(150 * 12, words.len(), 3);
    let text = |row: usize| {
        let picks = &picks[row * 12..][..1 + row % 11];
        let words: Vec<&str> = picks.iter().map(|&pick| words[pick as usize]).collect();
        Text { first: words.join(" "), second: None }
    };
    let texts = Texts::new((0..150).map(text).collect()).unwrap();
    Subject {
        name: "encoder",
        config,
        start: values.into_iter().map(Some).collect(),
        data: Dataset::numbered(texts, random_labels(150, 3, 4)).unwrap(),
    }
}

/// How a student is trained.
fn how(text: &str) -> Train {
    let recipe = format!(
        "[data]\nsource = \"embedded\"\n[teacher]\nfolder = \"t\"\n[student]\nmodel = {{ type = \"mlp\", hidden_sizes = [1] }}\n\
         [train]\n{text}"
    );
    Recipe::parse(&recipe, "recipe.toml").unwrap().train
}

fn learn(device: &mut dyn Device, subject: &Subject, train_as: &Train) -> Trained {
    let Subject { config, start, data, .. } = subject;
    let lesson = Lesson {
        arm: Arm::Control,
        config,
        start,
        train: train_as,
        seed: 3,
        data,
        test: data,
        teacher: None,
        test_answers: None,
        temperature: 2.0,
        alpha: 0.5,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints::new(folder.path(), 0.0);
    train(device, &lesson, &mut checkpoints, &mut Silent).unwrap()
}

/// What the parameters have changed by.
fn change(subject: &Subject, before: &Trained, after: &Trained) -> Vec<f64> {
    assert_eq!(subject.start.len(), after.parameters.len());
    let pairs = before.parameters.iter().flatten().zip(after.parameters.iter().flatten());
    pairs.map(|(before, after)| f64::from(*after) - f64::from(*before)).collect()
}

#[test]
fn a_step_of_many_batches_is_one_of_a_large_batch() {
    // Clipping and momentum: both look at the whole gradient.
    let optimizer = "clip = 0.3\noptimizer = { name = \"sgd\", lr = 0.1, momentum = 0.9 }";
    let split = |length: &str, batch: usize, accumulate: usize| {
        how(&format!("{length}\nbatch = {batch}\naccumulate = {accumulate}\n{optimizer}"))
    };
    for subject in [perceptron(), encoder()] {
        for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
            let device = &mut **device;
            let none = learn(
                device,
                &subject,
                &how("steps = 1\noptimizer = { name = \"sgd\", lr = 1e-30 }"),
            );
            let mut of = |batch, accumulate| {
                let trained = learn(device, &subject, &split("epochs = 2", batch, accumulate));
                assert_eq!(trained.steps, 10);
                change(&subject, &none, &trained)
            };
            let whole = of(32, 1);
            assert!(whole.iter().any(|change| change.abs() > 1e-2));
            for (batch, accumulate) in [(8, 4), (16, 2), (1, 32)] {
                let what = format!("{}, {batch} x {accumulate}", subject.name);
                assert_close(&what, &of(batch, accumulate), &whole, 1e-9);
            }
        }
    }
}

#[test]
fn a_step_of_many_batches_allocates_nothing() {
    for subject in [perceptron(), encoder()] {
        for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
            let mut made = |steps: u32| {
                let before = device.stats();
                learn(
                    &mut **device,
                    &subject,
                    &how(&format!("steps = {steps}\nbatch = 4\naccumulate = 3")),
                );
                let after = device.stats();
                (after.buffers - before.buffers, after.bind_groups - before.bind_groups)
            };
            // Twelve steps are nearly an epoch; its batches are of all shapes.
            made(13);
            assert_eq!(made(26), made(52), "{}", subject.name);
        }
    }
}
