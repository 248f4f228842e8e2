//! Masked language models against Hugging Face transformers; see tools/make_encoder_fixtures.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use distil_gpu_engine::data::{Examples, Text, Texts};
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::models::{
    self, Architecture, BatchEncoder, BatchShape, Draw, Head, HostBatch, Input, ModelConfig,
};
use distil_gpu_engine::objective::{Objective, TeacherInput, forward_plan, training_plan};
use distil_gpu_engine::plan::{BufferKind, BufferSpec, Plan};
use distil_gpu_engine::recipe::{Distil, HiddenDistance, HiddenLoss};
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Layout, Part, Storage};
use distil_gpu_kernels::StepState;
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_tests::{assert_close, devices, oracle};
use safetensors::SafeTensors;

/// A model and its parameters.
type Parameters<'a> = (&'a ModelConfig, &'a [Vec<f32>]);

const FAMILIES: [&str; 3] = ["bert-mlm", "distilbert-mlm", "roberta-mlm"];
const TEACHER: &str = "bert-mlm-teacher";
/// Texts of the batch, and tokens that they are padded to; in the fixtures they are padded to 9.
const SHAPE: BatchShape = BatchShape { rows: 3, length: 12, guessed: 0 };
const WIDTH: usize = 9;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// What transformers computed.
struct Expected(Vec<u8>);

impl Expected {
    fn of(name: &str) -> Self {
        Self(std::fs::read(folder(name).join("expected.safetensors")).unwrap())
    }

    fn integers(&self, name: &str) -> Vec<i32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data())
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data())
    }

    /// The batch, with its masked tokens.
    fn batch(&self, config: &ModelConfig) -> HostBatch {
        let Input::Tokens(input) = &config.input else { panic!("an encoder reads tokens") };
        let [tokens, types, lengths] = ["tokens", "types", "lengths"].map(|n| self.integers(n));
        let row = |(row, &length): (usize, &i32)| {
            let range = row * WIDTH..row * WIDTH + length as usize;
            (&tokens[range.clone()], &types[range])
        };
        let rows: Vec<_> = lengths.iter().enumerate().map(row).collect();
        let [places, labels] = ["places", "labels"].map(|name| self.integers(name));
        let place = |place: i32| place as usize / WIDTH * SHAPE.length + place as usize % WIDTH;
        let hidden: Vec<_> =
            places.iter().zip(labels).map(|(&at, label)| (place(at), label)).collect();
        let mut batch = HostBatch::default();
        batch.texts(input, SHAPE, &rows);
        batch.masked(config.input.labels(SHAPE), &hidden);
        batch
    }
}

/// Without dropout.
fn load(name: &str) -> (ModelConfig, Vec<Vec<f32>>) {
    let (mut config, values) = models::load(&folder(name)).unwrap();
    let Architecture::Encoder(encoder) = &mut config.architecture else {
        panic!("{name} is an encoder")
    };
    assert_eq!(encoder.head, Head::MaskedLanguage);
    (encoder.hidden_dropout, encoder.attention_dropout) = (0.0, 0.0);
    (config, values)
}

fn fill(session: &mut Session<'_>, store: usize, values: &[Vec<f32>]) {
    for (index, values) in values.iter().enumerate() {
        let exact: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        session.set(store, index, &exact).unwrap();
    }
}

fn layout(config: &ModelConfig) -> Layout {
    Layout::new(config.model().parameters()).unwrap()
}

#[test]
fn logits_are_those_of_transformers() {
    for name in FAMILIES {
        let expected = Expected::of(name);
        let (config, values) = load(name);
        let mut devices = devices();
        devices.push(Box::new(oracle()));
        for device in &mut devices {
            let batch = expected.batch(&config);
            let plan = forward_plan(&config, SHAPE).unwrap();
            let mut session = Session::new(&mut **device, plan, [layout(&config)]).unwrap();
            fill(&mut session, 0, &values);
            let inputs: Vec<(&str, HostTensor<'_>)> =
                batch.inputs().filter(|(name, _)| *name != "labels").collect();
            session.run(&StepState::default(), &inputs).unwrap();
            let found = session.output("logits").unwrap();
            let expected = expected.floats("logits");
            let device = session.device.info().name.clone();
            // Behind the masked tokens lie rows of none, which are all the same.
            let (found, surplus) = found.split_at(expected.len());
            let width = config.answers();
            assert_eq!((found.len() % width, surplus.len() % width), (0, 0));
            for row in surplus.chunks_exact(width) {
                assert!(row.iter().all(|logit| logit.is_finite()), "{name} on {device}");
                assert_eq!(row, &surplus[..width], "{name} on {device}");
            }
            for (found, expected) in found.iter().zip(expected) {
                let error = (found - expected).abs();
                assert!(error < 1e-5, "{name} on {device}: {found}, not {expected}");
            }
        }
    }
}

/// One step of plain descent at rate 1 takes the gradient away from each parameter.
fn gradients(
    config: &ModelConfig,
    values: &[Vec<f32>],
    (plan, teacher): (Plan, Option<Parameters<'_>>),
    batch: &HostBatch,
    state: StepState,
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut device = oracle();
    let layouts = [config].into_iter().chain(teacher.map(|(config, _)| config)).map(layout);
    let mut session = Session::new(&mut device, plan, layouts).unwrap();
    fill(&mut session, 0, values);
    if let Some((_, values)) = teacher {
        fill(&mut session, 1, values);
    }
    let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
    session.run(&StepState { learning_rate: 1.0, ..state }, &inputs).unwrap();
    let gradient = |(index, before): (usize, &Vec<f32>)| {
        let after = session.part(0, Part::Parameters, index).unwrap();
        before.iter().zip(after).map(|(&before, after)| f64::from(before) - after).collect()
    };
    let gradients = values.iter().enumerate().map(gradient).collect();
    (gradients, session.metrics(0).unwrap())
}

const DESCENT: OptimizerConfig = OptimizerConfig {
    rule: Rule::Sgd { momentum: 0.0, nesterov: false },
    weight_decay: 0.0,
    clip: None,
    max_norm: None,
};

fn hold(name: &str, config: &ModelConfig, found: &[Vec<f64>], expected: &Expected, kind: &str) {
    for (spec, found) in config.model().parameters().iter().zip(found) {
        let theirs = expected.floats(&format!("{kind}.{}", spec.name));
        // A key's bias moves all scores of a query alike: its gradient is rounding.
        let largest = theirs.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        if largest < 1e-12 {
            assert!(found.iter().all(|value| value.abs() < 1e-7), "{name}: {}", spec.name);
            continue;
        }
        // Scales of the means are f32 fifths.
        assert_close(&format!("{name}, {kind}: {}", spec.name), found, &theirs, 1e-13);
    }
}

#[test]
fn gradients_are_those_of_transformers() {
    for name in FAMILIES {
        let expected = Expected::of(name);
        let (config, values) = load(name);
        let batch = expected.batch(&config);
        let plan = training_plan(&config, TeacherInput::None, SHAPE, DESCENT).unwrap();
        let state = StepState { hard_scale: 0.2, ..StepState::default() };
        let (found, _) = gradients(&config, &values, (plan, None), &batch, state);
        hold(name, &config, &found, &expected, "gradient");
    }
}

#[test]
fn a_distillation_step_is_that_of_pytorch() {
    let expected = Expected::of(FAMILIES[0]);
    let (config, values) = load(FAMILIES[0]);
    let (teacher, theirs) = load(TEACHER);
    let batch = expected.batch(&config);
    let cosine = HiddenLoss {
        loss: HiddenDistance::Cosine,
        student_layer: -1,
        teacher_layer: -1,
        weight: 1.0,
    };
    let distil = Distil { hidden: vec![cosine], ..Distil::default() };
    let objective = Objective::of(&distil, &config, Some(&teacher), None).unwrap();
    let input = TeacherInput::Model {
        config: &teacher,
        stored: Storage::F32.into(),
        objective: &objective,
    };
    let plan = training_plan(&config, input, SHAPE, DESCENT).unwrap();
    let state = StepState {
        temperature: 2.0,
        alpha: 0.3,
        token_scale: 1.0 / 14.0,
        soft_scale: 0.2,
        hard_scale: 0.2,
        ..StepState::default()
    };
    let plan = (plan, Some((&teacher, &theirs[..])));
    let (found, sums) = gradients(&config, &values, plan, &batch, state);
    hold(FAMILIES[0], &config, &found, &expected, "distilled");
    let losses = expected.floats("loss");
    for (sum, mean) in sums.iter().zip(&losses).take(2) {
        // The scale of attention is an f32.
        assert!((sum / 5.0 - mean).abs() < 1e-7, "{sum} / 5 is not {mean}");
    }
    assert_eq!(sums[4..6], [5.0, 5.0]);
}

#[test]
fn saved_models_are_read_again_and_start_students() {
    for name in FAMILIES {
        let (config, values) = models::load(&folder(name)).unwrap();
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &config, &values).unwrap();
        let (again, same) = models::load(copy.path()).unwrap();
        assert!(again == config && same == values, "{name}");
        // The tied weight is not stored twice.
        let bytes = std::fs::read(copy.path().join(models::WEIGHTS)).unwrap();
        let theirs = std::fs::read(folder(name).join(models::WEIGHTS)).unwrap();
        let names = |bytes: &[u8]| {
            let file = SafeTensors::deserialize(bytes).unwrap();
            let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(names(&bytes), names(&theirs), "{name}");

        // A classifier's folder starts a language model, all but its head; and the other way round.
        let classifier = folder(name.strip_suffix("-mlm").unwrap());
        let (config, values) =
            models::load_start(&classifier, Head::MaskedLanguage, false).unwrap();
        let fresh = values.iter().filter(|values| values.is_none()).count();
        assert!(config.input.masks());
        assert_eq!(fresh, 5, "{name}");
        let (config, values) = models::load_start(&folder(name), Head::Classes(0), false).unwrap();
        let fresh = values.iter().filter(|values| values.is_none()).count();
        assert!(!config.input.masks());
        assert_eq!(fresh, 4, "{name}");
    }
}

#[test]
fn batches_have_room_for_every_draw() {
    let (config, _) = load(FAMILIES[0]);
    let words = ["good", "bad film", "the good film, the bad film!", "a b c d e f g h i j k l"];
    let text = |words: &str| Text { first: words.to_owned(), second: None };
    let texts = (0..40).map(|row| text(words[row % 4])).collect();
    let examples = Examples::from(Texts::new(texts).unwrap());
    let feed = BatchEncoder::new(&config.input, &examples).unwrap();
    let batches = feed.epoch(8, 1, 0);
    let tokens: Vec<i32> = (0..2)
        .flat_map(|epoch| {
            let draw = Draw { shift: None, seed: 1, epoch };
            let mut all = Vec::new();
            for batch in &batches {
                let shape = feed.shape(batch, 8);
                let mut out = HostBatch::default();
                feed.fill(batch, shape, draw, &mut out);
                let values: Vec<(&str, HostTensor<'_>)> = out.inputs().collect();
                let of = |wanted: &str| {
                    let found = values.iter().find(|(name, _)| *name == wanted).unwrap();
                    let HostTensor::I32(values) = found.1 else { panic!("{wanted} are integers") };
                    values.to_vec()
                };
                let (places, labels) = (of("masked tokens"), of("labels"));
                assert_eq!(places.len(), config.input.labels(shape));
                let masked = places.iter().zip(&labels).filter(|(place, _)| **place >= 0);
                // The label is what stood at its place.
                for (&place, &label) in masked.clone() {
                    let row = feed.tokens().row(batch[place as usize / shape.length] as usize).0;
                    assert_eq!(row[place as usize % shape.length], label);
                }
                assert!(masked.count() >= batch.len());
                all.extend(places);
            }
            all
        })
        .collect();
    let (first, second) = tokens.split_at(tokens.len() / 2);
    assert_ne!(first, second);
}

/// Two models of 30,522 tokens, small otherwise: four times as many texts take less memory more than half of one model's
/// logits for them would.
#[test]
fn a_step_has_no_room_for_whole_logits() {
    const VOCAB: usize = 30_522;
    let (mut config, _) = load(FAMILIES[0]);
    let Architecture::Encoder(encoder) = &mut config.architecture else { unreachable!() };
    (encoder.vocab_size, encoder.max_position_embeddings) = (VOCAB, 128);
    config.input = Input::Tokens(encoder.input());
    let step = |rows| {
        let shape = BatchShape { rows, length: 128, guessed: 0 };
        let teacher = TeacherInput::model(&config);
        let plan = training_plan(&config, teacher, shape, DESCENT).unwrap();
        // 15 % of 128 tokens a text.
        let logits = 19 * rows * VOCAB;
        assert!(plan.buffers.iter().all(|buffer| buffer.len <= 256 * VOCAB && buffer.len < logits));
        // A chunk of each model's logits; the table's gradients, as embeddings and as the head's weight, add up where
        // the optimizer reads them.
        let table =
            |buffer: &&BufferSpec| buffer.kind == BufferKind::Slot && buffer.len >= 24 * VOCAB;
        assert_eq!(plan.buffers.iter().filter(table).count(), 2);
        (plan.own_bytes(), logits as u64 * 4)
    };
    let ((few, logits), (many, more_logits)) = (step(16), step(64));
    assert!(many - few < (more_logits - logits) / 2, "{few} bytes for 16 texts, {many} for 64");
}
