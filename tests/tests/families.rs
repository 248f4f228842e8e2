//! Every family of encoders with every head against Hugging Face transformers; see tools/make_encoder_fixtures.py.
//!
//! With `SAVED_ENCODERS=<folder>` models are left there as they are saved, for tools/check_saved_families.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use distil_gpu_engine::data::{Dataset, Normalisation, Text, Texts};
use distil_gpu_engine::device::{Device, HostTensor};

use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::models::{
    self, BatchShape, Head, HostBatch, Initialization, Input, ModelConfig, Output, ProblemType,
};
use distil_gpu_engine::objective::{TeacherInput, forward_plan, training_plan};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Layout, Part};
use distil_gpu_kernels::StepState;
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_tests::{Fixtures, assert_close, devices, fixtures, model_folder, oracle};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// The families; a name's second part is what is special in the configuration.
const FAMILIES: [&str; 15] = [
    "bert",
    "bert-untied",
    "distilbert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "electra",
    "electra-wide",
    "albert",
    "mpnet",
    "modernbert",
    "modernbert-biased",
    "deberta-v2",
    "deberta-v2-apart",
    "deberta-v2-plain",
];
const HEADS: [&str; 5] = ["classes", "tokens", "span", "language", "embedding"];

/// A model with all heads, and what transformers made of a batch.
struct Fixture {
    name: &'static str,
    saved: Fixtures,
    metadata: HashMap<String, String>,
}

impl Fixture {
    fn of(name: &'static str) -> Self {
        let saved = Fixtures::open(&format!("families/{name}.safetensors"));
        let metadata = saved.metadata();
        Self { name, saved, metadata }
    }

    fn heads(&self) -> impl Iterator<Item = &'static str> {
        HEADS.into_iter().filter(|head| self.metadata.contains_key(&format!("{head}.config")))
    }

    /// Names of the tensors in transformers' file of the model with this head.
    fn names(&self, head: &str) -> Vec<String> {
        serde_json::from_str(&self.metadata[&format!("{head}.names")]).unwrap()
    }

    /// The folder of the model with this head, as transformers saves it.
    fn folder(&self, head: &str) -> TempDir {
        let file = self.saved.file();
        let tensor = |name: &str| {
            let own = file.tensor(&format!("{head}/{name}"));
            let bare = |name: &str| file.tensor(&format!("trunk/{name}"));
            let shared = || bare(name).or_else(|_| bare(name.split_once('.').unwrap().1));
            own.or_else(|_| shared()).unwrap()
        };
        let names = self.names(head);
        let tensors = names.iter().map(|name| (name.as_str(), tensor(name))).collect();
        model_folder(tensors, &self.metadata[&format!("{head}.config")])
    }

    /// The batch, padded to `length`.
    fn batch(&self, config: &ModelConfig, length: usize) -> (HostBatch, BatchShape) {
        let Input::Tokens(input) = &config.input else { panic!("an encoder reads tokens") };
        let [tokens, types, lengths] =
            ["tokens", "types", "lengths"].map(|n| self.saved.integers(n));
        let width = tokens.len() / lengths.len();
        let row = |(row, &length): (usize, &i32)| {
            let range = row * width..row * width + length as usize;
            (&tokens[range.clone()], &types[range])
        };
        let rows: Vec<_> = lengths.iter().enumerate().map(row).collect();
        let shape = BatchShape { rows: rows.len(), length, guessed: 0 };
        let mut batch = HostBatch::default();
        batch.texts(input, shape, &rows);
        if matches!(config.output(), Output::Tokens(_) | Output::Vocabulary(_)) {
            let at = |place: i32| place as usize / width * length + place as usize % width;
            let places: Vec<_> =
                self.saved.integers("places").into_iter().map(|place| (at(place), 0)).collect();
            batch.masked(config.input.labels(shape), &places);
        }
        (batch, shape)
    }

    /// What a model answers on a device, at those places alone that transformers answered for.
    fn answer(
        &self,
        device: &mut dyn Device,
        config: &ModelConfig,
        values: &[Vec<f32>],
    ) -> Vec<f64> {
        // Padding changes nothing.
        let (batch, shape) = self.batch(config, 24);
        let mut session = session(device, config, forward_plan(config, shape).unwrap(), values);
        let inputs: Vec<(&str, HostTensor<'_>)> =
            batch.inputs().filter(|(name, _)| *name != "labels").collect();
        session.run(&StepState::default(), &inputs).unwrap();
        let mut found = session.output("logits").unwrap();
        match config.output() {
            Output::Tokens(n) | Output::Vocabulary(n) => {
                found.truncate(n * self.saved.integers("places").len());
            }
            Output::Span => {
                let lengths = self.saved.integers("lengths");
                let logits = found.chunks(shape.length).enumerate().map(|(row, logits)| {
                    let (text, padding) = logits.split_at(lengths[row / 2] as usize);
                    assert!(padding.iter().all(|logit| *logit < -2e4), "{padding:?}");
                    text.to_vec()
                });
                found = logits.collect::<Vec<_>>().concat();
            }
            _ => {}
        }
        found
    }

    /// What transformers answered at those places.
    fn expected(&self, head: &str) -> Vec<f64> {
        let logits = self.saved.floats(&format!("{head}.logits"));
        let lengths = self.saved.integers("lengths");
        match head {
            "span" => {
                let rows = logits.chunks(logits.len() / lengths.len() / 2).enumerate();
                rows.flat_map(|(row, logits)| logits[..lengths[row / 2] as usize].to_vec())
                    .collect()
            }
            "embedding" => {
                let unit = |vector: &[f64]| {
                    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
                    vector.iter().map(|x| x / norm).collect::<Vec<_>>()
                };
                logits.chunks(logits.len() / lengths.len()).flat_map(unit).collect()
            }
            _ => logits,
        }
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

/// Leaves a saved model and its answers where they are asked for.
fn leave(fixture: &Fixture, kind: &str, config: &ModelConfig, values: &[Vec<f32>]) {
    let Some(all) = std::env::var_os("SAVED_ENCODERS") else { return };
    let folder = Path::new(&all).join(format!("{}-{kind}", fixture.name));
    models::save(&folder, config, values).unwrap();
    let found = fixture.answer(&mut oracle(), config, values);
    let found: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F64, vec![found.len() / 8], &found).unwrap();
    fs::write(folder.join("found.bin"), safetensors::serialize([("found", view)], None).unwrap())
        .unwrap();
    let source = format!("families/{}.safetensors", fixture.name);
    fs::copy(fixtures().join(source), folder.join("fixture.bin")).unwrap();
}

#[test]
fn answers_are_those_of_transformers() {
    let mut devices = devices();
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        for head in fixture.heads() {
            let folder = fixture.folder(head);
            let (config, values) = models::load(folder.path()).unwrap();
            let expected = fixture.expected(head);
            let hold = |device: &mut dyn Device, limit: f64| {
                let found = fixture.answer(device, &config, &values);
                assert_eq!(found.len(), expected.len(), "{name}, {head}");
                let errors = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                let worst = errors.fold(0.0, f64::max);
                let device = device.info().name.clone();
                println!("{worst:9.1e}  {name}, {head} on {device}");
                assert!(worst < limit, "{name}, {head} on {device}: {worst}");
            };
            // The scale of scores is an f32.
            hold(&mut oracle(), 1e-7);
            for device in &mut devices {
                hold(&mut **device, 2e-5);
            }
            leave(&fixture, head, &config, &values);
        }
    }
}

#[test]
fn gradients_are_those_of_transformers() {
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        let (mut config, values) = models::load(fixture.folder("classes").path()).unwrap();
        let encoder = config.encoder_mut().unwrap();
        (encoder.hidden_dropout, encoder.attention_dropout) = (0.0, 0.0);
        encoder.classifier_dropout = 0.0;
        let (mut batch, shape) = fixture.batch(&config, 20);
        *batch.integers("labels", 0) = vec![2, 0, 1];
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
            let after = session.part(0, Part::Parameters, index).unwrap();
            let gradient: Vec<f64> =
                values[index].iter().zip(after).map(|(&a, b)| f64::from(a) - b).collect();
            let theirs = fixture.saved.floats(&format!("gradient/{}", spec.name));
            let largest = theirs.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            // A key's bias moves all scores of a query alike: its gradient is rounding.
            if largest < 1e-12 {
                assert!(gradient.iter().all(|value| value.abs() < 1e-7), "{name}: {}", spec.name);
                continue;
            }
            assert_close(&format!("{name}: {}", spec.name), &gradient, &theirs, 1e-12);
        }
    }
}

#[test]
fn saved_models_are_transformers_own() {
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        for head in fixture.heads() {
            let folder = fixture.folder(head);
            let (config, values) = models::load(folder.path()).unwrap();
            let copy = tempfile::tempdir().unwrap();
            models::save(copy.path(), &config, &values).unwrap();
            let (again, same) = models::load(copy.path()).unwrap();
            assert!(again == config && same == values, "{name}, {head}");
            let bytes = fs::read(copy.path().join(models::WEIGHTS)).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let theirs = fixture.names(head);
            for tensor in file.names() {
                let bare = tensor.split_once('.').unwrap().1;
                let known = theirs.iter().any(|known| known == tensor || known == bare);
                assert!(known, "{name}, {head}: {tensor}");
            }
            let read = |folder: &Path| -> serde_json::Value {
                serde_json::from_slice(&fs::read(folder.join(models::CONFIG)).unwrap()).unwrap()
            };
            let (ours, theirs) = (read(copy.path()), read(folder.path()));
            assert_eq!(ours["architectures"], theirs["architectures"]);
            // What both say is the same; rates that transformers leaves to others are told here.
            for (key, value) in ours.as_object().unwrap() {
                let same = theirs[key].is_null() || theirs[key] == *value;
                assert!(same, "{name}, {head}: {key} is {value}, not {}", theirs[key]);
            }
        }
    }
}

/// Texts of the fixtures' words.
fn texts() -> Dataset {
    let texts = ["Good films, the bad!", "a bad film", "z"];
    let texts = texts.map(|text| Text { first: text.to_owned(), second: None });
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    Dataset::new(Texts::new(texts.to_vec()).unwrap(), vec![0, 1, 2], names).unwrap()
}

#[test]
fn students_are_cut_out_of_every_family() {
    let data = texts();
    let heads = [
        ("classes", Head::Classes(3)),
        ("tokens", Head::Tokens(3)),
        ("span", Head::Span),
        ("language", Head::MaskedLanguage),
        ("embedding", Head::Embedding),
    ];
    for name in FAMILIES {
        let fixture = Fixture::of(name);
        for (at, (kind, head)) in heads.into_iter().enumerate() {
            // The model that it starts from has another head, or the same.
            for from in [heads[(at + 1) % 5].0, kind] {
                let folder = fixture.folder(from);
                let text = format!(
                    "[data]\nsource = \"embedded\"\n[teacher]\nlogits = \"z\"\n[train]\nsteps = 1\n[student]\n\
                     model = {{ type = \"encoder\", from = {:?}, layers = [1], hidden_size = 8, intermediate_size = 11 }}",
                    folder.path()
                );
                let model = Recipe::parse(&text, "/a.toml").unwrap().student.model;
                let start =
                    Initialization::of(&model, head, &data, &Normalisation::identity(), None)
                        .unwrap();
                let given = start.first.values(Path::new("no teacher")).unwrap();
                let specs = start.config.model().parameters();
                // All but the head, which is taken only if it is there, and not its last layer where classes differ.
                let missing = specs.iter().zip(&*given).filter(|(_, values)| values.is_none());
                let missing: Vec<&str> = missing.map(|(spec, _)| &*spec.name).collect();
                if from == kind && head.classes() == 0 {
                    assert_eq!(missing, [""; 0], "{name}, {kind}");
                } else {
                    assert!(missing.len() <= 6, "{name}, {kind} from {from}: {missing:?}");
                }
                let values = Initialization::initial(&specs, &given, 1);
                let found = fixture.answer(&mut oracle(), &start.config, &values);
                assert!(found.iter().all(|value| value.is_finite()), "{name}, {kind}");
                let copy = tempfile::tempdir().unwrap();
                models::save(copy.path(), &start.config, &values).unwrap();
                let (again, same) = models::load(copy.path()).unwrap();
                assert!(again == start.config && same == values, "{name}, {kind} from {from}");
                leave(&fixture, &format!("{kind}-student"), &start.config, &values);
            }
        }
    }
}

#[test]
fn what_a_classifiers_numbers_mean_is_kept() {
    let fixture = Fixture::of("bert");
    let (mut config, values) = models::load(fixture.folder("classes").path()).unwrap();
    assert_eq!(config.problem, ProblemType::SingleLabel);
    for problem in [ProblemType::MultiLabel, ProblemType::Regression] {
        config.problem = problem;
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &config, &values).unwrap();
        assert_eq!(models::load_config(copy.path()).unwrap().problem, problem);
        let text = fs::read_to_string(copy.path().join(models::CONFIG)).unwrap();
        assert!(text.contains(&format!("\"problem_type\": \"{}\"", problem.name())), "{text}");
    }
}

/// A tokenizer of pieces with scores, as these families have them.
#[test]
fn tokenizers_of_pieces_are_kept() {
    const MAX_LENGTH: usize = 20;
    let text = fs::read_to_string(fixtures().join("tokenizers/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let wanted = &expected["kinds"]["unigram"]["full"]["ids"];
    let rows: Vec<Text> = expected["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| Text { first: text.as_str().unwrap().to_owned(), second: None })
        .collect();
    for name in ["xlm-roberta", "camembert"] {
        let (folder, source) =
            (tempfile::tempdir().unwrap(), fixtures().join("tokenizers/unigram"));
        for file in [models::WEIGHTS, "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(source.join(file), folder.path().join(file)).unwrap();
        }
        let config = fs::read_to_string(source.join(models::CONFIG)).unwrap();
        let config = config.replace("\"roberta\"", &format!("\"{name}\""));
        fs::write(folder.path().join(models::CONFIG), config).unwrap();
        let (config, values) = models::load(folder.path()).unwrap();
        let copy = tempfile::tempdir().unwrap();
        models::save(copy.path(), &config, &values).unwrap();
        let (again, same) = models::load(copy.path()).unwrap();
        assert!(again == config && same == values, "{name}");
        let Input::Tokens(tokens) = &again.input else { panic!("an encoder reads tokens") };
        let texts = Texts::new(rows.clone()).unwrap();
        let found = tokens.tokenizer.as_ref().unwrap().encode_all(&texts, MAX_LENGTH).unwrap();
        let found: Vec<&[i32]> = (0..rows.len()).map(|row| found.row(row).0).collect();
        assert_eq!(serde_json::json!(found), *wanted, "{name}");
        if let Some(all) = std::env::var_os("SAVED_ENCODERS") {
            let folder = Path::new(&all).join(format!("{name}-pieces"));
            models::save(&folder, &config, &values).unwrap();
            let told = serde_json::json!({ "texts": expected["texts"], "ids": wanted });
            fs::write(folder.join("ids.json"), told.to_string()).unwrap();
        }
    }
}
