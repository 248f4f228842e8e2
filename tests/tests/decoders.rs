//! Every family of decoders against Hugging Face transformers; see tools/make_decoder_fixtures.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use distil_gpu_engine::data::text::PackedRow;
use distil_gpu_engine::device::{CpuDevice, Device, HostTensor};
use distil_gpu_engine::generate::{Generator, Sampling};
use distil_gpu_engine::graph::Recompute;
use distil_gpu_engine::graph::ops::{OptimizerConfig, Update};
use distil_gpu_engine::models::decoder::Room;
use distil_gpu_engine::models::{self, BatchShape, HostBatch, Input, ModelConfig};
use distil_gpu_engine::objective::{TeacherInput, forward_plan, loss_plan, training_plan};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Layout, Part, Storage};
use distil_gpu_kernels::StepState;
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_tests::{Fixtures, assert_close, devices, model_folder, oracle};
use tempfile::TempDir;

/// The families; a name's second part is what is special in the configuration.
const FAMILIES: [&str; 12] = [
    "llama",
    "llama-biases",
    "llama-linear",
    "llama-llama3",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen2-windows",
    "qwen3",
    "gpt2",
    "gemma3",
    "gemma3-wide",
];
const VOCAB: usize = 40;

/// A model, and what transformers made of two texts.
struct Fixture(Fixtures);

impl Fixture {
    fn of(name: &'static str) -> Self {
        Self(Fixtures::open(&format!("decoders/{name}.safetensors")))
    }

    /// The model's folder.
    fn folder(&self) -> TempDir {
        let file = self.0.file();
        let of_model = file.names().into_iter().filter_map(|name| name.strip_prefix("model/"));
        let tensors =
            of_model.map(|name| (name, file.tensor(&format!("model/{name}")).unwrap())).collect();
        model_folder(tensors, &self.0.metadata()["config"])
    }

    fn load(&self) -> (ModelConfig, Vec<Vec<f32>>) {
        models::load(self.folder().path()).unwrap()
    }

    /// The two texts.
    fn texts(&self) -> Vec<Vec<i32>> {
        let tokens = self.0.integers("tokens");
        tokens.chunks(tokens.len() / 2).map(<[i32]>::to_vec).collect()
    }
}

/// A batch with room for every next token, or where `tight` for those alone that have a label.
fn batch(
    config: &ModelConfig,
    rows: &[PackedRow],
    length: usize,
    tight: bool,
) -> (HostBatch, BatchShape) {
    let Input::Tokens(input) = &config.input else { panic!("a decoder reads tokens") };
    let labels = rows.iter().flat_map(|row| row.labels.iter().flatten()).count();
    let guessed = if tight { labels } else { 0 };
    let shape = BatchShape { rows: rows.len(), length, guessed };
    let mut batch = HostBatch::default();
    batch.packed(input, shape, rows);
    (batch, shape)
}

fn session<'a>(
    device: &'a mut dyn Device,
    config: &ModelConfig,
    plan: Plan,
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

/// As [`session`], with a frozen teacher of the same parameters.
fn taught_session<'a>(
    device: &'a mut dyn Device,
    config: &ModelConfig,
    plan: Plan,
    values: &[Vec<f32>],
) -> Session<'a> {
    let layout = || Layout::new(config.model().parameters()).unwrap();
    let mut session = Session::new(device, plan, [layout(), layout()]).unwrap();
    for (index, values) in values.iter().enumerate() {
        let exact: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        session.set(0, index, &exact).unwrap();
        session.set(1, index, &exact.iter().map(|value| 1.1 * value).collect::<Vec<_>>()).unwrap();
    }
    session
}

/// Logits at those places of these rows that have a label, which are the first ones.
fn logits(
    device: &mut dyn Device,
    config: &ModelConfig,
    values: &[Vec<f32>],
    rows: &[PackedRow],
    length: usize,
) -> Vec<f64> {
    let (batch, shape) = batch(config, rows, length, rows.len() == 1);
    let mut session = session(device, config, forward_plan(config, shape).unwrap(), values);
    let inputs: Vec<(&str, HostTensor<'_>)> =
        batch.inputs().filter(|(name, _)| *name != "labels").collect();
    session.run(&StepState::default(), &inputs).unwrap();
    let mut found = session.output("logits").unwrap();
    let labels = rows.iter().flat_map(|row| row.labels.iter().flatten());
    found.truncate(labels.count() * VOCAB);
    found
}

fn worst(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Of each text of its own row, padded, and of both in one row, which changes nothing; nor does it that there is no room
/// there but for next tokens that count.
#[test]
fn logits_are_those_of_transformers_alone_and_packed() {
    let mut devices = devices();
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        let (config, values) = fixture.load();
        let texts = fixture.texts();
        let all = fixture.0.floats("logits");
        let per_text = all.len() / 2;
        // The last place of a text has nothing to guess.
        let expected: Vec<f64> =
            all.chunks(per_text).flat_map(|text| text[..per_text - VOCAB].to_vec()).collect();
        let alone: Vec<PackedRow> = texts.iter().map(|text| PackedRow::of_texts(&[text])).collect();
        let packed = [PackedRow::of_texts(&[&texts[0], &texts[1]])];
        let hold = |device: &mut dyn Device, limit: f64| {
            for (kind, rows, length) in [("alone", &alone[..], 24), ("packed", &packed, 32)] {
                let found = logits(device, &config, &values, rows, length);
                let worst = worst(&found, &expected);
                let device = device.info().name.clone();
                println!("{worst:9.1e}  {name}, {kind} on {device}");
                assert!(worst < limit, "{name}, {kind} on {device}: {worst}");
            }
        };
        // transformers rounds norms and angles to f32 whatever its inputs; logits are up to 15.
        hold(&mut oracle(), 1e-5);
        for device in &mut devices {
            hold(&mut **device, 2e-5);
        }
    }
}

#[test]
fn gradients_are_those_of_transformers() {
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        let (config, values) = fixture.load();
        let texts = fixture.texts();
        let rows = [PackedRow::of_texts(&[&texts[0], &texts[1]])];
        let (batch, shape) = batch(&config, &rows, 32, false);
        // One step of plain descent at rate 1 takes the gradient away from each parameter.
        let descent = OptimizerConfig {
            rule: Rule::Sgd { momentum: 0.0, nesterov: false },
            weight_decay: 0.0,
            clip: None,
            max_norm: None,
        };
        let mut config = config;
        if let models::Architecture::Decoder(decoder) = &mut config.architecture {
            decoder.dropout = models::decoder::Dropout::default();
        }
        let plan = training_plan(&config, TeacherInput::None, shape, descent).unwrap();
        let mut device = oracle();
        let mut session = session(&mut device, &config, plan, &values);
        let labels = rows[0].labels.iter().flatten().count();
        let state = StepState {
            learning_rate: 1.0,
            hard_scale: 1.0 / labels as f32,
            ..StepState::default()
        };
        let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
        session.run(&state, &inputs).unwrap();
        for (index, spec) in config.model().parameters().iter().enumerate() {
            let after = session.part(0, Part::Parameters, index).unwrap();
            let gradient: Vec<f64> =
                values[index].iter().zip(after).map(|(&a, b)| f64::from(a) - b).collect();
            let theirs = fixture.0.floats(&format!("gradient/{}", spec.name));
            assert_close(&format!("{name}: {}", spec.name), &gradient, &theirs, 1e-11);
        }
    }
}

/// A step that makes the insides of layers again has the same bits, dropout included, and takes less memory.
#[test]
fn activations_made_again_change_no_bit() {
    let mut devices = devices();
    for name in ["llama", "qwen3", "gpt2"] {
        let fixture = Fixture::of(name);
        let (mut config, values) = fixture.load();
        if let models::Architecture::Decoder(decoder) = &mut config.architecture {
            (decoder.dropout.attention, decoder.dropout.residual) = (0.1, 0.2);
        }
        let texts = fixture.texts();
        let rows = [PackedRow::of_texts(&[&texts[0], &texts[1]])];
        let (batch, shape) = batch(&config, &rows, 32, false);
        let adamw = OptimizerConfig {
            rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
            weight_decay: 0.05,
            clip: Some(1.0),
            max_norm: None,
        };
        let plan = |recompute| {
            let update = Update { recompute, ..adamw.into() };
            training_plan(&config, TeacherInput::model(&config), shape, update).unwrap()
        };
        let (kept, again) = (plan(Recompute::None), plan(Recompute::Layers));
        assert!(again.calls.len() > kept.calls.len());
        assert!(again.slot_bytes() < kept.slot_bytes(), "{name}");
        let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
        let run = |device: &mut dyn Device, plan: &Plan| {
            let mut session = taught_session(device, &config, plan.clone(), &values);
            for step in 0..3 {
                let state =
                    StepState { learning_rate: 1e-2, step, alpha: 0.5, ..StepState::default() };
                session.run(&state, &inputs).unwrap();
            }
            let parameters = config.model().parameters().len();
            (0..parameters)
                .map(|index| session.part(0, Part::Parameters, index).unwrap())
                .collect::<Vec<_>>()
        };
        let mut cpu = CpuDevice::<f32>::new();
        assert_eq!(run(&mut cpu, &again), run(&mut cpu, &kept), "{name}");
        for device in &mut devices {
            let on = device.info().name.clone();
            assert_eq!(run(&mut **device, &again), run(&mut **device, &kept), "{name} on {on}");
        }
    }
}

/// A student of 20 layers at 1,024 tokens keeps a quarter of its activations at most.
#[test]
fn activations_made_again_take_a_quarter_of_the_memory() {
    let (mut config, _) = Fixture::of("llama").load();
    let models::Architecture::Decoder(decoder) = &mut config.architecture else { unreachable!() };
    decoder.num_hidden_layers = 20;
    decoder.windows = vec![None; 20];
    let shape = BatchShape { rows: 4, length: 256, guessed: 0 };
    let plan = |recompute| {
        let rule = Rule::Sgd { momentum: 0.0, nesterov: false };
        let config_of = OptimizerConfig { rule, weight_decay: 0.0, clip: None, max_norm: None };
        let update = Update { recompute, ..config_of.into() };
        training_plan(&config, TeacherInput::None, shape, update).unwrap().slot_bytes()
    };
    let (kept, again) = (plan(Recompute::None), plan(Recompute::Layers));
    println!("{:.1} MB kept, {:.1} MB made again", kept as f64 / 1e6, again as f64 / 1e6);
    assert!(4 * again <= kept, "{again} bytes, {kept} where all is kept");
}

/// Of a language model beside no teacher: the entropy of its guesses, by the definition, and what contexts there are.
#[test]
fn entropies_and_contexts_are_told() {
    let fixture = Fixture::of("llama");
    let (config, values) = fixture.load();
    let all = fixture.0.floats("logits");
    let texts = fixture.texts();
    // The last place of a text has nothing to guess.
    let per_text = all.len() / texts.len();
    let guessed = all.chunks(per_text).flat_map(|text| text[..per_text - VOCAB].chunks(VOCAB));
    let entropies = guessed.map(|logits| {
        let top = logits.iter().copied().fold(f64::MIN, f64::max);
        let powers: Vec<f64> = logits.iter().map(|z| (z - top).exp()).collect();
        let sum: f64 = powers.iter().sum();
        -powers.iter().map(|power| power / sum * (power / sum).ln()).sum::<f64>()
    });
    let (sum, count) = entropies.fold((0.0, 0), |(sum, count), one| (sum + one, count + 1));
    let rows: Vec<PackedRow> = texts.iter().map(|text| PackedRow::of_texts(&[text])).collect();
    let (batch, shape) = batch(&config, &rows, 24, false);
    for mut device in devices() {
        let plan = loss_plan(&config, Storage::F32, TeacherInput::Uniform, shape).unwrap();
        let mut session = session(&mut *device, &config, plan, &values);
        let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
        session.run(&StepState::default(), &inputs).unwrap();
        let sums = session.metrics(0).unwrap();
        assert_eq!(sums[4], f64::from(count));
        let entropy = (VOCAB as f64).ln() - sums[0] / f64::from(count);
        let expected = sum / f64::from(count);
        assert!((entropy - expected).abs() < 1e-5, "{entropy}, not {expected}");
    }
}

/// 50 steps of AdamW have the losses that PyTorch's have.
#[test]
fn fine_tuning_follows_pytorch() {
    let fixture = Fixture::of("llama");
    let (config, values) = fixture.load();
    let batches = fixture.0.integers("batches");
    let expected = fixture.0.floats("losses");
    let rows: Vec<PackedRow> =
        batches.chunks(12).map(|text| PackedRow::of_texts(&[text])).collect();
    let adamw = OptimizerConfig {
        rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        weight_decay: 0.05,
        clip: None,
        max_norm: None,
    };
    let shape = BatchShape { rows: 4, length: 12, guessed: 0 };
    let plan = training_plan(&config, TeacherInput::None, shape, adamw).unwrap();
    let mut device = oracle();
    let mut session = session(&mut device, &config, plan, &values);
    let labels = 4.0 * 11.0;
    let mut before = 0.0;
    for (step, expected) in expected.iter().enumerate() {
        let (batch, _) = batch(&config, &rows[step % 2 * 4..][..4], 12, false);
        let correction = |beta: f64| (1.0 - beta.powi(step as i32 + 1)) as f32;
        let state = StepState {
            learning_rate: 2e-3,
            hard_scale: 1.0 / labels as f32,
            step: step as u32,
            bias_correction1: correction(0.9),
            bias_correction2: correction(0.999),
            ..StepState::default()
        };
        let inputs: Vec<(&str, HostTensor<'_>)> = batch.inputs().collect();
        session.run(&state, &inputs).unwrap();
        let sum = session.metrics(0).unwrap()[1];
        let loss = (sum - before) / labels;
        before = sum;
        assert!((loss - expected).abs() < 1e-3, "step {step}: {loss}, not {expected}");
    }
}

#[test]
fn saved_models_are_transformers_own() {
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        let folder = fixture.folder();
        let (config, values) = models::load(folder.path()).unwrap();
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &config, &values).unwrap();
        let (again, same) = models::load(copy.path()).unwrap();
        assert!(
            same == values
                && again.architecture.model().parameters() == config.model().parameters()
        );
        let read = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(folder.join(models::CONFIG)).unwrap()).unwrap()
        };
        let (ours, theirs) = (read(copy.path()), read(folder.path()));
        assert_eq!(
            ours["architectures"][0].as_str().map(|name| name.ends_with("Model")),
            Some(name == "gpt2")
        );
        for (key, value) in ours.as_object().unwrap() {
            let given = theirs.get(key).filter(|theirs| !theirs.is_null());
            let told = ["architectures", "torch_dtype", "rope_parameters", "max_window_layers"];
            let told = told.contains(&&**key);
            let same = told
                || given.is_none_or(|theirs| theirs == value || theirs.as_f64() == value.as_f64());
            assert!(same, "{name}: {key} is {value}, not {}", theirs[key]);
        }
    }
}

/// Texts of unequal length that are read piece by piece and token by token, side by side, have the logits of the whole
/// texts.
#[test]
fn kept_keys_and_values_are_those_of_the_whole_text() {
    let mut devices = devices();
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        let (config, values) = fixture.load();
        let (texts, all) = (fixture.texts(), fixture.0.floats("logits"));
        let length = texts[0].len();
        for device in &mut devices {
            let room = Room { rows: 2, capacity: length, said: false };
            let mut generator =
                Generator::new(&mut **device, &config, &values, Storage::F32, room).unwrap();
            // Of the first text and of the second one: none, one or several tokens at a time.
            for parts in [[5, 1], [1, 0], [1, 9], [0, 1], [1, 1], [6, 2]] {
                let before = generator.lengths().to_vec();
                let tokens: Vec<&[i32]> =
                    (0..2).map(|row| &texts[row][before[row]..][..parts[row]]).collect();
                let found = generator.read(&tokens).unwrap();
                for row in (0..2).filter(|&row| parts[row] > 0) {
                    let last = row * length + before[row] + parts[row] - 1;
                    let expected = &all[last * VOCAB..][..VOCAB];
                    let found: Vec<f64> =
                        found[row * VOCAB..][..VOCAB].iter().map(|&v| f64::from(v)).collect();
                    let worst = worst(&found, expected);
                    assert!(worst < 2e-5, "{name}, text {row} at {last}: {worst}");
                }
            }
            assert_eq!(generator.lengths(), [length, length]);
            assert!(generator.read(&[&[3], &[]]).is_err(), "there is no more room");
        }
    }
}

/// Tokens that are chosen on the device, several in one run, are those that the logits of the whole text say, one by one;
/// also where some were said and count less, and where a text is left alone.
#[test]
fn tokens_are_chosen_on_the_device() {
    let mut devices = devices();
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        let (config, values) = fixture.load();
        let texts = fixture.texts();
        for penalty in [1.0, 1.5] {
            let sampling = Sampling { repetition_penalty: penalty, ..Sampling::default() };
            let expected = continued(&mut *devices[0], (&config, &values), &texts[1][..4], penalty);
            for device in &mut devices {
                for at_once in [1, 5] {
                    let room = Room { rows: 2, capacity: 16, said: penalty != 1.0 };
                    let mut generator =
                        Generator::new(&mut **device, &config, &values, Storage::F32, room)
                            .unwrap();
                    generator.read(&[&[], &texts[1][..3]]).unwrap();
                    let mut last = texts[1][3];
                    let mut found = Vec::new();
                    while found.len() < expected.len() {
                        let written =
                            generator.write(&[None, Some(last)], &sampling, at_once).unwrap();
                        found.extend_from_slice(&written[1]);
                        last = found[found.len() - 1];
                    }
                    assert_eq!(found, expected, "{name}, {at_once} at once, penalty {penalty}");
                    assert_eq!(generator.lengths(), [0, 3 + found.len()]);
                    assert!(generator.write(&[None, Some(last)], &sampling, 9).is_err());
                }
            }
        }
    }
}

/// The ten likeliest tokens behind a text, each by the logits of all before it.
fn continued(
    device: &mut dyn Device,
    (config, values): (&ModelConfig, &[Vec<f32>]),
    text: &[i32],
    penalty: f32,
) -> Vec<i32> {
    let mut text = text.to_vec();
    let given = text.len();
    while text.len() < given + 10 {
        let room = Room { rows: 1, capacity: 16, said: false };
        let mut generator = Generator::new(device, config, values, Storage::F32, room).unwrap();
        let mut logits = generator.read(&[&text]).unwrap();
        for token in text.iter().copied().collect::<BTreeSet<i32>>() {
            let logit = &mut logits[token as usize];
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        text.push(best as i32);
    }
    text[given..].to_vec()
}
