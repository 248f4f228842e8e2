//! Tokenizers of saved students against what transformers makes of them; see tools/check_saved_tokenizers.py.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::data::{Dataset, Normalisation, Text, Texts, Tokenizer};
use distil_gpu_engine::models::{self, Head, Initialization, Input, ModelConfig, TokenInput};
use distil_gpu_engine::recipe::Recipe;
use serde::Deserialize;
use serde_json::Value;

fn fixtures() -> PathBuf {
    distil_gpu_tests::fixtures().join("tokenizers")
}

#[derive(Deserialize)]
struct Expected {
    train: Vec<String>,
    texts: Vec<String>,
    max_length: usize,
    /// By tokenizer, then by the student's vocabulary.
    kinds: BTreeMap<String, BTreeMap<String, Student>>,
}

/// What transformers was given, and the ids that it gave.
#[derive(Deserialize)]
struct Student {
    ids: Vec<Vec<i32>>,
    tokenizer_config: Value,
}

impl Expected {
    fn read() -> Self {
        let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A student of the model of that tokenizer, and the values of its parameters.
    fn student(&self, kind: &str, vocabulary: &str) -> (ModelConfig, Vec<Vec<f32>>) {
        let folder = fixtures().join(kind);
        let text = format!(
            "[data]\nsource = \"embedded\"\n[teacher]\nlogits = \"z\"\n[train]\nsteps = 1\n[student]\n\
             model = {{ type = \"encoder\", from = {folder:?}, vocabulary = {vocabulary:?}, max_length = {} }}",
            self.max_length
        );
        let model = Recipe::parse(&text, "/a.toml").unwrap().student.model;
        let labels = (0..self.train.len() as u32).map(|row| row % 2).collect();
        let classes = ["bad", "good"].map(str::to_owned).to_vec();
        let data = Dataset::new(texts(&self.train), labels, classes).unwrap();
        let identity = Normalisation::identity();
        let start =
            Initialization::of(&model, Head::Classes(data.classes()), &data, &identity, None)
                .unwrap();
        let values = start.first.values(Path::new("no teacher")).unwrap().into_owned();
        let values = Initialization::initial(&start.config.model().parameters(), &values, 0);
        (start.config, values)
    }
}

fn texts(rows: &[String]) -> Texts {
    Texts::new(rows.iter().map(|row| Text::from(row.as_str())).collect()).unwrap()
}

fn ids(config: &ModelConfig, rows: &[String]) -> Vec<Vec<i32>> {
    let Input::Tokens(TokenInput { tokenizer: Some(tokenizer), max_length, .. }) = &config.input
    else {
        panic!("an encoder reads tokens")
    };
    let tokens = tokenizer.encode_all(&texts(rows), *max_length).unwrap();
    (0..rows.len()).map(|row| tokens.row(row).0.to_vec()).collect()
}

#[test]
fn a_saved_student_has_the_ids_and_files_that_transformers_was_held_to() {
    let expected = Expected::read();
    assert_eq!(expected.kinds.len(), 11);
    for (kind, students) in &expected.kinds {
        for (vocabulary, known) in students {
            let (config, values) = expected.student(kind, vocabulary);
            let saved = tempfile::tempdir().unwrap();
            models::save(saved.path(), &config, &values).unwrap();
            let text = fs::read_to_string(saved.path().join("tokenizer_config.json")).unwrap();
            let written: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(written, known.tokenizer_config, "{kind}, {vocabulary}");
            let (again, same) = models::load(saved.path()).unwrap();
            assert!(again == config && same == values, "{kind}, {vocabulary}");
            for config in [&config, &again] {
                let found = ids(config, &expected.texts);
                for ((found, known), text) in found.iter().zip(&known.ids).zip(&expected.texts) {
                    assert_eq!(found, known, "{kind}, {vocabulary}: {text:?}");
                }
                assert_eq!(found.len(), known.ids.len());
            }
            println!("{kind}, {vocabulary}: {} ids", known.ids.concat().len());
        }
    }
}

#[test]
fn what_the_source_says_of_its_tokens_stays_and_follows_the_new_numbers() {
    let expected = Expected::read();
    let (config, values) = expected.student("accents", "trimmed");
    let saved = tempfile::tempdir().unwrap();
    // What another tokenizer left there.
    fs::write(saved.path().join("vocab.txt"), "[PAD]\n").unwrap();
    fs::write(saved.path().join("tokenizer.json"), "{}").unwrap();
    models::save(saved.path(), &config, &values).unwrap();
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(saved.path().join(name)).unwrap()).unwrap()
    };
    let source: Value = serde_json::from_slice(
        &fs::read(fixtures().join("accents/special_tokens_map.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(read("special_tokens_map.json"), source);
    let vocabulary = read("tokenizer.json");
    let added = read("added_tokens.json")["newword"].as_u64().unwrap();
    let listed = vocabulary["added_tokens"].as_array().unwrap();
    assert!(listed.iter().any(|token| token["content"] == "newword" && token["id"] == added));
    let config = read("tokenizer_config.json");
    assert_eq!(config["added_tokens_decoder"][added.to_string()]["content"], "newword");
    assert_eq!([&config["strip_accents"], &config["do_lower_case"]], [false, true]);
    assert_eq!(config["model_max_length"], expected.max_length);
    assert!(!saved.path().join("vocab.txt").exists());

    let (config, values) = expected.student("cased", "full");
    models::save(saved.path(), &config, &values).unwrap();
    for name in ["special_tokens_map.json", "added_tokens.json"] {
        assert!(!saved.path().join(name).exists(), "{name}");
    }
    let config: Value =
        serde_json::from_slice(&fs::read(saved.path().join("tokenizer_config.json")).unwrap())
            .unwrap();
    assert_eq!(config["clean_up_tokenization_spaces"], true);
    assert!(config.get("name_or_path").is_none(), "it names another folder");
}

#[test]
fn a_folder_with_vocab_txt_alone_is_read_and_saved_with_both_files() {
    let expected = Expected::read();
    for vocabulary in ["full", "trimmed"] {
        let (config, values) = expected.student("vocab-txt", vocabulary);
        let saved = tempfile::tempdir().unwrap();
        models::save(saved.path(), &config, &values).unwrap();
        let text = fs::read_to_string(saved.path().join("vocab.txt")).unwrap();
        let Input::Tokens(tokens) = &config.input else { panic!("an encoder reads tokens") };
        assert_eq!(text.lines().count(), tokens.vocab_size, "{vocabulary}");
        // Without tokenizer.json, the list of words gives the same ids.
        fs::remove_file(saved.path().join("tokenizer.json")).unwrap();
        let again = models::load_config(saved.path()).unwrap();
        assert_eq!(ids(&again, &expected.texts), ids(&config, &expected.texts));
    }
}

/// Texts of several rounds of a thousand, many of which come again: at once, in the same round and in a later one.
#[test]
fn many_texts_become_what_each_becomes_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert");
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let words = ["good", "bad", "film", "films", "!"];
    let text = |row: usize| {
        let number = row * row % 1500;
        let word = |at: u32| words[number / 5_usize.pow(at) % 5];
        (0..2 + number as u32 % 5).map(word).collect::<Vec<_>>().join(" ")
    };
    let all: Vec<String> = (0..2400).map(text).collect();
    let tokens = tokenizer.encode_all(&texts(&all), 6).unwrap();
    assert_eq!(tokens.len(), all.len());
    let mut cut = 0;
    for (row, text) in all.iter().enumerate() {
        let alone = tokenizer.encode_all(&texts(std::slice::from_ref(text)), 6).unwrap();
        assert_eq!(tokens.row(row), alone.row(0), "text {row}, {text:?}");
        cut += alone.cut();
    }
    assert!(cut > 100 && tokens.cut() == cut, "{cut} are cut, and {} counted", tokens.cut());
}
