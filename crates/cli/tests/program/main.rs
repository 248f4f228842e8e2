//! The real program: `commands` and `check_and_bench` are what it does, `interrupted` and `attack` how it goes on after
//! it was stopped, `folder` what it makes of a folder that is at work, damaged, changed or a person's own, `pictures` how
//! it reads them, `report` the pages it makes, `export` models for other runtimes, `page` models as pages and `browser` what
//! opens them, `sweep` many runs at once, `texts` runs on texts, `guessing` masked
//! language models, `tune` how it chooses among variants of kernels, `hub` models from elsewhere, `label` a teacher's answers on disk, `manual` what it tells
//! of itself, `screens` what it prints, `serve` its server, `bad_input` and `bad_texts` what it says to input that is wrong,
//! `classes` how classes are told, `matrix` that each combination runs or is refused with a way out, `memory` that a
//! run takes the memory that was foretold.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod attack;
mod bad_input;
mod bad_texts;
#[cfg(unix)]
mod browser;
mod check_and_bench;
mod classes;
mod commands;
mod export;
mod folder;
mod guessing;
#[cfg(feature = "hub")]
mod hub;
mod interrupted;
mod label;
mod linked;
mod manual;
mod matrix;
mod memory;
mod next_tokens;
mod on_policy;
#[cfg(unix)]
mod page;
mod pictures;
mod report;
mod screens;
#[cfg(feature = "serve")]
mod serve;
mod sweep;
mod tasks;
mod texts;
mod tune;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Three small models on a few of the embedded pictures, on the processor.
const TINY: &str = r#"
device = "cpu"

[data]
source = "embedded"
train_limit = 200
test_limit = 100

[teacher]
model = { type = "mlp", hidden_sizes = [32] }

[student]
model = { type = "mlp", hidden_sizes = [8] }

[train]
epochs = 2
batch = 32
optimizer = { name = "sgd", lr = 0.05, momentum = 0.9 }
"#;

/// Two inputs, two hidden units, three classes.
const HAND_CONFIG: &str = r#"{
  "model_type": "mlp", "input_size": 2, "hidden_sizes": [2], "num_classes": 3,
  "activation": "relu", "dropout": 0.0, "input_dropout": 0.0,
  "input_shape": [2], "class_names": ["ant", "bee", "cat"],
  "normalisation": { "mean": [0.0], "std": [1.0] }
}"#;

/// The parameters of that model.
const HAND_WEIGHTS: [(&str, &[usize], &[f32]); 4] = [
    ("layers.0.weight", &[2, 2], &[1.0, -2.0, 0.5, 0.25]),
    ("layers.0.bias", &[2], &[0.5, -1.0]),
    ("layers.1.weight", &[3, 2], &[1.0, 0.0, -1.0, 2.0, 0.5, 0.5]),
    ("layers.1.bias", &[3], &[0.0, 0.25, -0.5]),
];

/// Where it keeps what it finds about devices.
const CACHE: &str = "cache";

/// A folder to run the program in, gone when this is. `tiny.toml` is there from the start.
struct Home {
    folder: PathBuf,
    _guard: Option<TempDir>,
}

/// How the program ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        Self::begin(guard.path().to_owned(), Some(guard))
    }

    /// A folder that stays, empty to begin with, for what several tests look at.
    fn shared(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        _ = fs::remove_dir_all(&folder);
        Self::begin(folder, None)
    }

    fn begin(folder: PathBuf, guard: Option<TempDir>) -> Self {
        let home = Self { folder, _guard: guard };
        home.write("tiny.toml", TINY);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn write_f32(&self, name: &str, tensors: &[(&str, &[usize], &[f32])]) {
        let bytes: Vec<_> = tensors.iter().map(|(_, _, values)| floats(values)).collect();
        let named = tensors.iter().zip(&bytes);
        let named: Vec<_> = named.map(|((n, s, _), b)| (*n, Dtype::F32, *s, &**b)).collect();
        self.write(name, safetensors(&named));
    }

    /// Writes the hand-made model into the folder `hand`.
    fn write_hand(&self) {
        self.write("hand/config.json", HAND_CONFIG);
        self.write_f32("hand/model.safetensors", &HAND_WEIGHTS);
    }

    /// Every file below the folder.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let with = |path: PathBuf| (path.clone(), fs::read(&path).unwrap());
        self.paths().into_iter().map(with).collect()
    }

    /// The path of every file below the folder. A program may be at work there.
    fn paths(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => walk(&path, paths),
                    false => paths.push(path),
                }
            }
        }
        let mut paths = Vec::new();
        walk(&self.folder, &mut paths);
        paths
    }

    /// The program with these arguments, separated by spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distil-gpu"));
        command.args(arguments.split_whitespace()).current_dir(&self.folder);
        // Tables in which nothing is wrapped.
        command.env("COLUMNS", "200");
        // Not what this machine's user tuned.
        command.env("DISTIL_GPU_CACHE", self.folder.join(CACHE));
        command
    }

    /// A GPU driver as `--device` takes it: SwiftShader takes ten times as long as others, so one of these if there is.
    fn quick_gpu(&self) -> String {
        self.gpu(|name| !name.contains("SwiftShader"))
    }

    /// The driver that compiles new shaders soonest.
    fn ready_gpu(&self) -> String {
        self.gpu(|name| name.contains("SwiftShader"))
    }

    /// The first driver that is wanted, else the first there is.
    fn gpu(&self, wanted: impl Fn(&str) -> bool) -> String {
        let list: Value = serde_json::from_str(&self.done("devices --json")).unwrap();
        let list = list["devices"].as_array().unwrap();
        let is_wanted = |device: &&Value| wanted(device["name"].as_str().unwrap());
        let gpu = list.iter().find(is_wanted).or(list.first());
        let gpu = gpu.expect("no GPU driver: run the tests through tests/run.sh");
        gpu["device"].as_str().unwrap().to_owned()
    }

    /// Runs the program, which must succeed; what it printed.
    #[track_caller]
    fn done(&self, arguments: &str) -> String {
        let said = say(self.command(arguments));
        assert_eq!(said.code, Some(0), "{arguments}: {said:?}");
        said.out
    }

    /// Runs the program, which must refuse in one line that holds all of `wanted`, and leave every file as
    /// it was.
    #[track_caller]
    fn refused(&self, arguments: &str, wanted: &[&str]) {
        let before = self.files();
        fails(self.command(&format!("{arguments} --quiet")), wanted);
        assert!(self.files() == before, "{arguments}: files were left or changed");
    }
}

/// Runs a command to its end. No panic is ever allowed.
#[track_caller]
fn say(mut command: Command) -> Said {
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let said = Said { code: output.status.code(), out, err };
    for word in ["panicked", "RUST_BACKTRACE"] {
        assert!(!said.err.contains(word), "{command:?}: {}", said.err);
    }
    said
}

/// Runs a command, which must end with one line of error that holds all of `wanted`, and code 1, or 2 where that is
/// about an argument.
#[track_caller]
fn fails(command: Command, wanted: &[&str]) {
    let shown = format!("{command:?}");
    let said = say(command);
    let of_arguments = ["error: --", "error: nothing varies"];
    let code = if of_arguments.iter().any(|begin| said.err.starts_with(begin)) { 2 } else { 1 };
    assert_eq!(said.code, Some(code), "{shown}: {said:?}");
    assert_eq!(said.out, "", "{shown}");
    assert!(said.err.starts_with("error: ") && said.err.lines().count() == 1, "{shown}: {said:?}");
    for wanted in wanted {
        assert!(said.err.contains(wanted), "{shown}: {wanted:?} is not in {}", said.err);
    }
    // What the system said is told once.
    assert!(said.err.matches("(os error").count() <= 1, "{}", said.err);
}

/// Little-endian bytes.
fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A safetensors file.
fn safetensors(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let view = |&(name, dtype, shape, bytes): &(_, _, &[usize], _)| {
        (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
    };
    safetensors::serialize(tensors.iter().map(view), None).unwrap()
}

/// The f32 tensor of that name: shape and values.
fn tensor(file: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = SafeTensors::deserialize(file).unwrap();
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    let word = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    (view.shape().to_vec(), view.data().chunks_exact(4).map(word).collect())
}
