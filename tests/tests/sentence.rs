//! Models of sentence-transformers against its own vectors; see tools/check_saved_embedders.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::data::{Examples, Text, Texts};
use distil_gpu_engine::device::CpuDevice;
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::models::{self, BatchEncoder, Input, ModelConfig, Pooling};
use distil_gpu_engine::objective::frozen_store;
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::run::{Begin, Silent, prepare, run};
use distil_gpu_engine::store::Storage;
use distil_gpu_engine::verify;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

const KINDS: [&str; 9] = [
    "cls",
    "mean",
    "mean-unscaled",
    "mean-sqrt",
    "weighted",
    "last",
    "max",
    "dense",
    "dense-twice",
];

fn fixtures() -> PathBuf {
    distil_gpu_tests::fixtures().join("sentence")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let place = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &place),
            false => drop(fs::copy(entry.path(), place).unwrap()),
        }
    }
}

/// The model of that kind in a folder of its own.
fn model(kind: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    copy(&fixtures().join("base"), &home.path().join("model"));
    copy(&fixtures().join(kind), &home.path().join("model"));
    home
}

fn texts() -> Vec<String> {
    serde_json::from_slice(&fs::read(fixtures().join("texts.json")).unwrap()).unwrap()
}

fn vectors(config: &ModelConfig, values: &[Vec<f32>], rows: &[String]) -> Vec<f32> {
    let rows = rows.iter().map(|row| Text::from(row.as_str())).collect();
    let examples = Examples::from(Texts::new(rows).unwrap());
    let mut device = CpuDevice::<f32>::new();
    let store = frozen_store(&mut device, config, values, Storage::F32).unwrap();
    let feed = BatchEncoder::new(&config.input, &examples).unwrap();
    Evaluator::new(config, &store).logits(&mut device, &feed, &mut |_| ()).unwrap()
}

fn change(path: &Path, key: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    json[key] = value;
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let bytes = fs::read(fixtures().join("vectors.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), KINDS.len());
    let texts = texts();
    for kind in KINDS {
        let expected = file.tensor(kind).unwrap();
        let home = model(kind);
        let (config, values) = models::load(&home.path().join("model")).unwrap();
        assert_eq!(expected.shape(), [texts.len(), config.answer_len()], "{kind}");
        let Input::Tokens(tokens) = &config.input else { panic!("an encoder reads tokens") };
        assert_eq!(tokens.max_length, 12, "{kind}");
        let expected: Vec<f32> = bytemuck::pod_collect_to_vec(expected.data());
        let found = vectors(&config, &values, &texts);
        let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        println!("{largest:9.1e}  {kind}");
        assert!(found.len() == expected.len() && largest < 2e-6, "{kind}: {largest}");

        // Saved, it is the same model.
        let saved = home.path().join("saved");
        models::save(&saved, &config, &values).unwrap();
        let (again, same) = models::load(&saved).unwrap();
        assert!(again == config && same == values, "{kind}");
        assert!(vectors(&again, &same, &texts) == found, "{kind}");
    }
}

/// A recipe in which the model of that kind teaches one that begins at random, with other tokens.
fn recipe(home: &TempDir) -> Recipe {
    let place = |name: &str| home.path().join(name);
    fs::write(place("train.txt"), texts().join("\n").repeat(4)).unwrap();
    let text = format!(
        "task = \"embedding\"\nout = {out:?}\n\
         data = {{ source = \"text\", train = {train:?}, test = {train:?} }}\n\
         teacher = {{ folder = {model:?} }}\n\
         train = {{ epochs = 30, batch = 16, optimizer = {{ name = \"adamw\", lr = 0.01 }} }}\n\
         [student]\nmodel = {{ type = \"encoder\", from = {model:?}, random = true, dropout = 0.0, \
         vocabulary = \"trimmed\" }}\n",
        out = place("run"),
        train = place("train.txt"),
        model = place("model"),
    );
    Recipe::parse(&text, "sentence.toml").unwrap()
}

#[test]
fn students_learn_through_every_pooling_but_the_maximum() {
    for kind in KINDS {
        let home = model(kind);
        let recipe = recipe(&home);
        let prepared = prepare(&recipe, Begin::New).unwrap();
        let mut device = CpuDevice::<f32>::new();
        let report = verify::recipe(&mut device, &recipe, prepared.setup(), &mut |_, _| ());
        assert!(report.unwrap().ok, "{kind}");
        let report = run(prepared, &mut device, &mut Silent).unwrap().report;
        let cosine =
            |arm: &distil_gpu_engine::results::ArmReport| arm.scores.get("cosine").unwrap();
        let (before, after) = (cosine(&report.arms.control), cosine(&report.arms.distilled));
        println!("{kind}: cosine {before:.3} before, {after:.3} after");
        assert!(
            after > before + 0.1 && (0.7..1.000_001).contains(&after),
            "{kind}: {before} {after}"
        );
        let pooling = |arm: &str| match models::load_config(&home.path().join("run").join(arm)) {
            Ok(ModelConfig { input: Input::Tokens(tokens), .. }) => tokens.pooling,
            other => panic!("{other:?}"),
        };
        let (teacher, student) = (pooling("teacher"), pooling("student"));
        match kind {
            "max" => assert_eq!((teacher, student), (Pooling::Max, Pooling::Mean)),
            _ => assert_eq!(teacher, student, "{kind}"),
        }
    }
}

#[test]
fn modules_that_are_not_supported_are_refused_by_name() {
    let told = |kind: &str, break_it: &dyn Fn(&Path)| {
        let home = model(kind);
        let folder = home.path().join("model");
        break_it(&folder);
        models::load(&folder).unwrap_err().to_string()
    };
    let modules = |change: &dyn Fn(&mut Vec<Value>)| {
        told("dense", &|folder| {
            let path = folder.join("modules.json");
            let mut list = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut list);
            fs::write(&path, Value::from(list).to_string()).unwrap();
        })
    };
    let key = |file: &str, key: &str, value: Value| {
        told("dense", &|folder| change(&folder.join(file), key, value.clone()))
    };
    let pooling = "1_Pooling/config.json";
    for (message, wanted) in [
        (
            modules(&|list| list[2]["type"] = "sentence_transformers.models.LSTM".into()),
            "modules.json: its module LSTM is not supported",
        ),
        (
            modules(&|list| list[2]["type"] = "own_code.Dense".into()),
            "its module own_code.Dense is not supported",
        ),
        (modules(&|list| list[2]["path"] = "../elsewhere".into()), "no folder within its own"),
        (
            modules(&|list| list[0]["path"] = "0_Transformer".into()),
            "lies in the folder 0_Transformer",
        ),
        (modules(&|list| list.truncate(1)), "its second module is no Pooling"),
        (key(pooling, "pooling_mode", json!(["mean", "max"])), "it joins the vectors of mean, max"),
        (
            key(pooling, "pooling_mode", json!("median")),
            "its pooling_mode `median` is none of cls,",
        ),
        (
            key(
                "2_Dense/config.json",
                "activation_function",
                json!("torch.nn.modules.activation.SiLU"),
            ),
            "SiLU` is none of",
        ),
        (key("2_Dense/config.json", "use_residual", json!(true)), "use_residual is not supported"),
        (
            key("2_Dense/config.json", "in_features", json!(9)),
            "takes 9 numbers, and 8 come before it",
        ),
        (
            told("cls", &|folder| {
                let path = folder.join("config_sentence_transformers.json");
                change(&path, "prompts", json!({"query": "query: "}));
                change(&path, "default_prompt_name", json!("query"));
            }),
            "it puts the prompt `query` in front of every text",
        ),
        (
            told("dense", &|folder| {
                fs::remove_file(folder.join("2_Dense/model.safetensors")).unwrap();
                fs::write(folder.join("2_Dense/pytorch_model.bin"), "").unwrap();
            }),
            "2_Dense: it has pytorch_model.bin and no model.safetensors: convert it",
        ),
    ] {
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn a_folder_without_modules_is_taken_for_the_mean_and_says_so() {
    let home = model("mean");
    let folder = home.path().join("model");
    // Without these files, longer texts are cut elsewhere.
    let texts = ["A good film", "très bon", "…"].map(str::to_owned);
    let (config, values) = models::load(&folder).unwrap();
    assert_eq!(models::assumed_pooling(&folder, &config), None);
    let stated = vectors(&config, &values, &texts);
    fs::remove_file(folder.join("modules.json")).unwrap();
    let (config, values) = models::load(&folder).unwrap();
    assert!(models::assumed_pooling(&folder, &config).unwrap().contains("has no modules.json"));
    assert!(vectors(&config, &values, &texts) == stated);
    let notes = prepare(&recipe(&home), Begin::New).unwrap().setup().notes().unwrap();
    assert!(notes[0].contains("has no modules.json"), "{notes:?}");
}
