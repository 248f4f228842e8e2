//! What a model is worth in each of its ways out: the test data of the run that it is of, answered by the files of an
//! exported folder in runtimes of their own.

mod browser;
mod child;
mod onnxruntime;
mod own;
mod question;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use distil_gpu_engine::Error as EngineError;
use distil_gpu_engine::data::classes::{self, LabelsKey};
use distil_gpu_engine::data::{self, Dataset, Numbers, Split};
use distil_gpu_engine::device::Device;
use distil_gpu_engine::models::{self, BatchEncoder, ModelConfig};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::results::Arm;
use distil_gpu_engine::results::{Exports, Figures, Outcome, Record, Way};
use distil_gpu_engine::store::Storage;
use distil_gpu_engine::task::{Measured, Measuring, TaskRef};

use crate::error::{Error, io, unless};
use child::Patience;
use question::{Answered, Question};

/// Numbers of all examples together, at most.
const MOST_NUMBERS: usize = 16 << 20;
/// How long a runtime may take.
const MOST_TIME: Duration = Duration::from_secs(600);
/// Name of the recipe in a run's folder.
const RECIPE: &str = "recipe.toml";
const NO_RUN: &str = "it is no student, control or teacher in the folder of a run, whose recipe would name the test data";

/// A part of an exported folder and the runtime that measures it.
struct Runtime {
    /// What it is, for people.
    name: &'static str,
    /// The file, or the folder.
    path: &'static str,
    answer: fn(&Question<'_>, &Path) -> Result<Answered, String>,
}

/// All there are.
static RUNTIMES: [Runtime; 4] = [
    Runtime { name: "ONNX, f32", path: "onnx/model.onnx", answer: onnxruntime::answer },
    Runtime {
        name: "ONNX, eight bits",
        path: "onnx/model_quantized.onnx",
        answer: onnxruntime::answer,
    },
    Runtime { name: "ONNX, f16", path: "onnx/model_fp16.onnx", answer: onnxruntime::answer },
    Runtime { name: "browser page", path: "web", answer: browser::answer },
];

/// A model of a run with the run's test data, to measure what becomes of it.
#[derive(Debug)]
pub struct Measure<'a> {
    config: &'a ModelConfig,
    task: TaskRef,
    arm: Arm,
    run: PathBuf,
    /// The examples, the shortest first.
    test: Dataset,
    /// The data's names of the model's classes, where it has classes and the data are labelled.
    names: Vec<String>,
    recipe: Recipe,
    python: PathBuf,
    notes: Vec<String>,
}

impl<'a> Measure<'a> {
    /// Reads what a model that lies in `from` is measured on: of its run's test data so many examples, evenly spread.
    /// `python` is the program that has onnxruntime.
    ///
    /// # Errors
    /// [`Error::Unmeasured`] where the model is of no run, or its answer to an example is no row of numbers;
    /// [`Error::Engine`] where files of the run or its data are missing or damaged.
    pub fn of(
        from: &Path,
        config: &'a ModelConfig,
        (examples, python): (usize, &Path),
    ) -> Result<Self, Error> {
        let unfit = |problem: String| Error::Unmeasured { path: from.to_owned(), problem };
        let Some((arm, run)) = Arm::of_model(from).filter(|(_, run)| run.join(RECIPE).is_file())
        else {
            return Err(unfit(NO_RUN.to_owned()));
        };
        let task = TaskRef::of_model(config);
        if !task.answers_once() || task.measuring() == Measuring::Loss {
            let name = task.name();
            return Err(unfit(format!("the answer of a model of `{name}` is no row of numbers")));
        }
        // A run that is damaged or not finished is told before anything is done.
        Record::read(&run)?;
        let recipe = Recipe::load(&run.join(RECIPE), &[]).map_err(EngineError::from)?;
        let Split { test, notes, .. } =
            data::load(&recipe.data, task.labels()).map_err(EngineError::from)?;
        let (test, names) = prepare(test, config, recipe.teacher.labels(), examples)?;
        let python = python.to_owned();
        Ok(Self { config, task, arm, run, test, names, recipe, python, notes })
    }

    /// What a person should know of how the data were read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Leaves what was measured in the run's folder, and makes the run's page again.
    ///
    /// # Errors
    /// [`Error::Engine`] naming the file.
    pub fn keep(&self, exports: &Exports) -> Result<(), Error> {
        exports.write(&self.run)?;
        Ok(distil_gpu_report::write_page(&self.run)?)
    }

    /// Measures the model with these values on a device, then what of its ways out is in `folder`, then the run's other
    /// models. `stop` is asked often whether to leave off; what was started then ends.
    ///
    /// # Errors
    /// When the device fails at the model itself, and [`Error::Stopped`]. A runtime that fails is told in its row.
    pub fn run(
        &self,
        device: &mut dyn Device,
        (values, folder): (&[Vec<f32>], &Path),
        stop: &dyn Fn() -> bool,
    ) -> Result<Exports, Error> {
        let feed = BatchEncoder::new(&self.config.input, self.test.examples())
            .map_err(EngineError::from)?;
        let own = own::answer(device, self.config, (values, Storage::F32), &feed)?;
        let scratch = tempfile::Builder::new().prefix("distil-gpu-").tempdir();
        let scratch = scratch.map_err(io(&std::env::temp_dir()))?;
        let (python, scratch) = (&*self.python, scratch.path());
        let patience = Patience { time: MOST_TIME, stop };
        let (width, count) = (self.config.answer_len(), self.test.len());
        let question = Question { python, scratch, feed: &feed, width, count, patience };
        question.write(self.test.examples())?;
        let compare = |config: &ModelConfig, answered: &Answered| {
            self.figures(config, &feed, answered, &own.logits)
        };

        let alone = |figures| Figures { agreement: None, furthest: None, ..figures };
        let itself = compare(self.config, &own).map(alone);
        let mut ways = vec![way(self.arm.title(), models::bytes(folder).unwrap_or(0), itself)];
        for Runtime { name, path, answer } in &RUNTIMES {
            let path = folder.join(path);
            unless(stop)?;
            if path.exists() {
                let answered = answer(&question, &path);
                let figures = answered.and_then(|answered| compare(self.config, &answered));
                ways.push(way(name, bytes(&path), figures));
            }
        }
        let mut loaded = |folder: &Path, storage| {
            let answered = self.loaded(device, folder, storage).map_err(|error| error.to_string());
            answered.and_then(|(config, answered)| compare(&config, &answered))
        };
        let eighths = folder.join("int8");
        let weights = eighths.join(models::INT8_WEIGHTS);
        if weights.is_file() {
            ways.insert(1, way("eight bits", bytes(&weights), loaded(&eighths, Storage::I8)));
        }
        for arm in Arm::ALL.into_iter().filter(|arm| *arm != self.arm) {
            let folder = self.run.join(arm.folder());
            unless(stop)?;
            if let Some(weights) = models::bytes(&folder) {
                let other = |figures| Figures { furthest: None, ..figures };
                let figures = loaded(&folder, Storage::F32).map(other);
                ways.push(way(arm.title(), weights, figures));
            }
        }
        unless(stop)?;
        Ok(Exports { arm: self.arm, task: self.task, examples: self.test.len(), ways })
    }

    /// The model of another folder, its classes in this one's order, and its answers.
    fn loaded(
        &self,
        device: &mut dyn Device,
        folder: &Path,
        storage: Storage,
    ) -> Result<(ModelConfig, Answered), EngineError> {
        let (mut config, mut values) = models::load(folder)?;
        let [own, theirs] = [self.config, &config].map(|config| &config.class_names);
        if self.names.is_empty() && own != theirs && own.len() > 1 {
            return Err(EngineError::Unsupported {
                what: "its outputs have other names".to_owned(),
                instead: "`eval` measures it".to_owned(),
            });
        }
        if !self.names.is_empty() {
            let labels = classes::meant(self.recipe.teacher.labels(), &config.class_names);
            let places =
                classes::places(&config.class_names, &labels, &self.names, LabelsKey::Recipe)?;
            config.order_classes(&mut values[..], &places, &self.names);
        }
        let feed = BatchEncoder::new(&config.input, self.test.examples())?;
        let answered = own::answer(device, &config, (&values, storage), &feed)?;
        drop(feed);
        Ok((config, answered))
    }

    /// What answers are worth, beside the model's own to the same examples.
    fn figures(
        &self,
        config: &ModelConfig,
        feed: &BatchEncoder<'_>,
        answered: &Answered,
        own: &[f32],
    ) -> Result<Figures, String> {
        let Some(rows) = &answered.rows else {
            return self.compared(config, (feed, &self.test), answered, own);
        };
        let test = self.test.select(rows).map_err(|error| error.to_string())?;
        let feed = BatchEncoder::new(&config.input, test.examples());
        let feed = feed.map_err(|error| error.to_string())?;
        let width = self.config.answer_len();
        let of = |row: &u32| own[*row as usize * width..][..width].iter().copied();
        let own: Vec<f32> = rows.iter().flat_map(of).collect();
        self.compared(config, (&feed, &test), answered, &own)
    }

    /// What answers are worth beside others.
    fn compared(
        &self,
        config: &ModelConfig,
        (feed, data): (&BatchEncoder<'_>, &Dataset),
        answered: &Answered,
        own: &[f32],
    ) -> Result<Figures, String> {
        let answers = &answered.logits;
        let teacher = Some((own, self.config.answer_len()));
        let measured = Measured { config, feed, data, answers, teacher, loss: None };
        let scores = self.task.scores(&measured).map_err(|error| error.to_string())?;
        let apart = answers.iter().zip(own).map(|(one, other)| f64::from((one - other).abs()));
        Ok(Figures {
            runtime: answered.runtime.clone(),
            examples: answered.rows.as_ref().map(Vec::len),
            score: self.task.score().of(&scores),
            agreement: self.task.agreement(&measured),
            furthest: Some(apart.fold(0.0, f64::max)),
            latency_ms: answered.latency_ms,
            examples_per_second: answered.examples_per_second,
        })
    }
}

fn way(name: &str, bytes: u64, figures: Result<Figures, String>) -> Way {
    let outcome = figures.map_or_else(Outcome::NotMeasured, Outcome::Measured);
    Way { name: name.to_owned(), bytes, outcome }
}

/// Bytes of a file, or of those in a folder.
fn bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |file| file.len());
    };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// The examples that are measured, the shortest first, with the outputs of the model; and the data's names of its classes.
fn prepare(
    test: Dataset,
    config: &ModelConfig,
    labels: &BTreeMap<String, String>,
    most: usize,
) -> Result<(Dataset, Vec<String>), EngineError> {
    let width = test.numbers().map_or(1, Numbers::example_len).max(1);
    let (all, count) = (test.len(), test.len().min(most).min(MOST_NUMBERS / width).max(1));
    let rows: Vec<u32> = (0..count).map(|at| (at * all / count) as u32).collect();
    let (mut test, mut names) = (test.select(&rows)?, Vec::new());
    if test.labels().is_some() {
        let own = &config.class_names;
        if TaskRef::of_model(config).has_classes() {
            names = classes::named(
                own,
                &classes::meant(labels, own),
                test.class_names(),
                LabelsKey::Recipe,
            )?;
            test = test.with_classes(&names)?;
        } else {
            test = test.with_outputs_of_model(own)?;
        }
    }
    let feed = BatchEncoder::new(&config.input, test.examples())?;
    let order = feed.all(count).concat();
    Ok((test.select(&order)?, names))
}
