//! Tiny models in folders, and servers of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use distil_gpu_engine::Error;
use distil_gpu_engine::device::{CpuDevice, Device};
use distil_gpu_engine::models::{self, Head, Input, ModelConfig, ProblemType};
use distil_gpu_serve::{Named, Options, ServeError, Server};
use tempfile::TempDir;

/// Models in folders that are gone when this is.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A small BERT with another head, wider where that is asked for, of random values.
    pub fn encoder(&self, name: &str, head: Head, change: impl FnOnce(&mut ModelConfig)) -> Named {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bert");
        let mut config = models::load_config(&fixture).unwrap();
        let tokenizer = match &config.input {
            Input::Tokens(tokens) => tokens.tokenizer.clone(),
            Input::Numbers { .. } => None,
        };
        let encoder = config.encoder_mut().unwrap();
        encoder.head = head;
        encoder.max_position_embeddings = 96;
        config.class_names = (0..head.classes()).map(|class| format!("class {class}")).collect();
        if head == Head::Classes(1) {
            config.problem = ProblemType::Regression;
        }
        change(&mut config);
        let mut input = config.encoder().unwrap().input();
        input.tokenizer = tokenizer;
        config.input = Input::Tokens(input);
        let specs = config.model().parameters();
        let values = specs.iter().enumerate().map(|(index, spec)| {
            let values = spec.initial(7, index);
            // Far enough from 0 that texts differ.
            match spec.shape.len() {
                2 => values.into_iter().map(|value| 8.0 * value).collect(),
                _ => values,
            }
        });
        let values: Vec<Vec<f32>> = values.collect();
        models::save(&self.path(name), &config, &values).unwrap();
        Named { name: name.to_owned(), folder: self.path(name) }
    }

    /// A classifier of three classes.
    pub fn classifier(&self) -> Named {
        self.encoder("classifier", Head::Classes(3), |_| ())
    }

    /// A perceptron of two numbers and three classes.
    pub fn perceptron(&self) -> Named {
        let folder = self.path("perceptron");
        fs::create_dir_all(&folder).unwrap();
        let config = r#"{
            "model_type": "mlp", "input_size": 2, "hidden_sizes": [40], "num_classes": 3,
            "activation": "relu", "dropout": 0.0, "input_dropout": 0.0, "input_shape": [2],
            "class_names": ["ant", "bee", "cat"], "normalisation": { "mean": [0.5], "std": [2.0] }
        }"#;
        fs::write(folder.join("config.json"), config).unwrap();
        let config = models::load_config(&folder).unwrap();
        let specs = config.model().parameters();
        let values: Vec<Vec<f32>> =
            specs.iter().enumerate().map(|(index, spec)| spec.initial(3, index)).collect();
        models::save(&folder, &config, &values).unwrap();
        Named { name: "perceptron".to_owned(), folder }
    }
}

/// Options for a port that is free.
pub fn options(models: Vec<Named>) -> Options {
    Options { port: 0, ..Options::new(models) }
}

pub fn cpu() -> Result<Box<dyn Device>, Error> {
    Ok(Box::new(CpuDevice::<f32>::new()))
}

/// A server on a thread, which is stopped when this is dropped.
pub struct Served {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Served {
    /// Serves on the processor.
    pub fn new(options: Options) -> Self {
        Self::on(options, cpu)
    }

    /// Serves on these devices, once they are loaded.
    pub fn on(
        options: Options,
        open: impl FnMut() -> Result<Box<dyn Device>, Error> + Send + 'static,
    ) -> Self {
        let server = Server::bind(options).unwrap();
        let address = server.address();
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let stop = || stopped.load(Ordering::SeqCst);
            server.run(open, stop, |_| tell.send(()).unwrap())
        });
        if told.recv().is_err() {
            panic!("the server ended: {:?}", thread.join());
        }
        Self { address, stop, thread: Some(thread) }
    }

    /// Asks it to stop, as a signal does.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Result<(), ServeError> {
        self.ask_to_stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
    }
}

/// Texts of all lengths up to so many words, the same every time.
pub fn texts(count: usize, most: usize) -> Vec<String> {
    const WORDS: [&str; 8] = ["good", "bad", "film", "films", "the", "a", "x!", "zoo,"];
    let word = |at: usize| WORDS[at * at % 61 % WORDS.len()];
    let text = |row: usize| {
        let words = (0..1 + row * 17 % most).map(|place| word(row + 3 * place));
        words.collect::<Vec<_>>().join(" ")
    };
    (0..count).map(text).collect()
}

/// The scores of an answer, by label.
pub fn by_label(answer: &serde_json::Value) -> BTreeMap<String, f32> {
    let one = |scored: &serde_json::Value| {
        let label = scored["label"].as_str().unwrap().to_owned();
        (label, serde_json::from_value(scored["score"].clone()).unwrap())
    };
    answer.as_array().unwrap().iter().map(one).collect()
}
