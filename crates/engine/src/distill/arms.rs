//! A run: teacher, control and distilled student, measured and saved.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::evaluate::{Evaluator, errors_per_class};
use super::teacher::{Teacher, frozen_store};
use super::trainer::{Lesson, train};
use super::{Arm, Event, Observer};
use crate::data::{self, DataError, Dataset, Normalisation, Split};
use crate::device::Device;
use crate::error::Error;
use crate::models::{self, ModelConfig, write_atomically};
use crate::recipe::{self, Normalise, Recipe};
use crate::report::{ArmReport, Arms, BiasCorrection, Examples, Report};
use crate::store::{Layout, Store};

/// A finished run.
#[derive(Debug)]
pub struct Run {
    /// Where its results lie.
    pub folder: PathBuf,
    /// What it measured.
    pub report: Report,
}

/// Runs a recipe.
///
/// # Errors
/// When data, teacher or device cannot be used, the loss stops being a number, or the results cannot be
/// written. What was finished before stays in the run's folder.
pub fn run(
    recipe: &Recipe,
    device: &mut dyn Device,
    replace: bool,
    observer: &mut dyn Observer,
) -> Result<Run, Error> {
    let start = Instant::now();
    let split = data::load(&recipe.data)?;
    let loaded = match &recipe.teacher {
        recipe::Teacher::Folder { folder } => Some(models::load(folder)?),
        _ => None,
    };
    let normalisation = normalisation(recipe, &split, loaded.as_ref().map(|(config, _)| config))?;
    if let Some((config, _)) = &loaded {
        fits(config, &split)?;
    }
    let config_of = |model| ModelConfig::for_data(model, &split.train, &normalisation);
    let teacher = match &recipe.teacher {
        recipe::Teacher::Trained { model, train } => Some((model, train)),
        _ => None,
    };
    for (model, train) in teacher.into_iter().chain([(&recipe.student.model, &recipe.train)]) {
        split.train.examples().check_shift(train.shift)?;
        Layout::new(config_of(model).model().parameters())?;
    }
    let students = student_data(recipe, &split.train)?;
    let folder = choose_folder(recipe, replace)?;
    let work = Work { recipe, split: &split, students: &students, folder: &folder };
    let given = match &recipe.teacher {
        recipe::Teacher::Logits { logits } => Some(work.given_logits(logits)?),
        _ => None,
    };
    let resolved = recipe.to_toml()?;
    // What can be refused beforehand has been: from here on there are files.
    prepare_folder(recipe, &folder)?;
    write_atomically(&folder.join("recipe.toml"), resolved.as_bytes())?;
    let mut log = Log::create(&folder, observer)?;

    let (teacher, teacher_arm, answers) = match &recipe.teacher {
        recipe::Teacher::Trained { model, train: how } => {
            let config = config_of(model);
            let lesson = Lesson {
                arm: Arm::Teacher,
                config: &config,
                train: how,
                seed: recipe.seed,
                data: &split.train,
                test: &split.test,
                teacher: None,
                test_answers: None,
                temperature: 1.0,
                alpha: 0.0,
            };
            let trained = train(device, &lesson, &mut log)?;
            let values = trained.store.read_all(device)?;
            trained.store.free(device);
            models::save(&folder.join(Arm::Teacher.folder()), &config, &values)?;
            let store = frozen_store(device, &config, &values)?;
            let (arm, answers) =
                work.measure(device, Arm::Teacher, &config, &store, Some(trained.steps))?;
            (
                Teacher::Model { config: Box::new(config), store: Box::new(store) },
                Some(arm),
                Some(answers),
            )
        }
        recipe::Teacher::Folder { folder: path } => {
            let (config, values) = loaded.expect("a teacher's folder was loaded above");
            log.note(&format!("The teacher comes from {}", path.display()));
            models::save(&folder.join(Arm::Teacher.folder()), &config, &values)?;
            let store = frozen_store(device, &config, &values)?;
            let (arm, answers) = work.measure(device, Arm::Teacher, &config, &store, None)?;
            (
                Teacher::Model { config: Box::new(config), store: Box::new(store) },
                Some(arm),
                Some(answers),
            )
        }
        recipe::Teacher::Logits { .. } => given.expect("a teacher's logits were read above"),
    };

    let config = config_of(&recipe.student.model);
    let mut arm = |arm: Arm, teacher: Option<&Teacher>, log: &mut Log<'_>| -> Result<_, Error> {
        let lesson = Lesson {
            arm,
            config: &config,
            train: &recipe.train,
            seed: recipe.seed,
            data: &students,
            test: &split.test,
            teacher,
            test_answers: answers.as_deref().filter(|_| teacher.is_some()),
            temperature: recipe.distil.temperature,
            alpha: recipe.distil.alpha,
        };
        let trained = train(device, &lesson, log)?;
        let values = trained.store.read_all(device)?;
        models::save(&folder.join(arm.folder()), &config, &values)?;
        let (report, logits) =
            work.measure(device, arm, &config, &trained.store, Some(trained.steps))?;
        trained.store.free(device);
        Ok((report, logits))
    };
    let (control, _) = arm(Arm::Control, None, &mut log)?;
    let (distilled, logits) = arm(Arm::Distilled, Some(&teacher), &mut log)?;

    let arms = Arms { teacher: teacher_arm, control, distilled };
    let (retained, gap_closed) = Report::ratios(&arms);
    let agreement = answers.map(|answers| agreement(&logits, &answers, split.test.classes()));
    let info = device.info();
    let report = Report {
        name: recipe.name.clone(),
        arms,
        retained,
        gap_closed,
        agreement,
        examples: Examples {
            teacher: split.train.len(),
            students: students.len(),
            test: split.test.len(),
        },
        seed: recipe.seed,
        device: info.name.clone(),
        backend: format!("{} {}", info.backend, info.driver).trim_end().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seconds: start.elapsed().as_secs_f64(),
    };
    log.finish()?;
    let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
    write_atomically(&folder.join("report.json"), format!("{json}\n").as_bytes())?;
    Ok(Run { folder, report })
}

/// A teacher, what was measured of it, and its raw logits of the test set.
type MeasuredTeacher = (Teacher, Option<ArmReport>, Option<Vec<f32>>);

/// What measuring an arm needs.
struct Work<'a> {
    recipe: &'a Recipe,
    split: &'a Split,
    students: &'a Dataset,
    folder: &'a Path,
}

impl Work<'_> {
    /// Measures a saved model on the test set; returns its raw logits too.
    fn measure(
        &self,
        device: &mut dyn Device,
        which: Arm,
        config: &ModelConfig,
        store: &Store,
        steps: Option<u32>,
    ) -> Result<(ArmReport, Vec<f32>), Error> {
        let mut evaluator = Evaluator::new(config, store);
        let test = &self.split.test;
        let logits = evaluator.logits(device, test.examples(), &mut |_| ())?;
        let mut arm = self.count(&logits, steps);
        if !self.recipe.distil.omit_classes.is_empty() {
            let known = evaluator.logits(device, self.split.train.examples(), &mut |_| ())?;
            arm.bias_corrected = self.correct_biases(&known, &logits);
        }
        let speed = evaluator.speed(device, test)?;
        evaluator.close(device);
        arm.parameters = Some(config.parameter_count());
        arm.latency_ms = Some(speed.latency.as_secs_f64() * 1e3);
        arm.examples_per_second = Some(speed.examples_per_second);
        let file = self.folder.join(which.folder()).join(models::WEIGHTS);
        arm.bytes = fs::metadata(&file).map(|metadata| metadata.len()).ok();
        Ok((arm, logits))
    }

    fn count(&self, logits: &[f32], steps: Option<u32>) -> ArmReport {
        let test = &self.split.test;
        let errors_per_class = errors_per_class(logits, test.labels(), test.classes(), None);
        let errors = errors_per_class.iter().sum();
        ArmReport {
            accuracy: (test.len() - errors) as f64 / test.len() as f64,
            errors,
            errors_per_class,
            parameters: None,
            bytes: None,
            latency_ms: None,
            examples_per_second: None,
            steps,
            bias_corrected: Vec::new(),
        }
    }

    /// For each class the students never saw: the shift of its logit that makes fewest errors on all
    /// training examples, and what it does to the test set.
    fn correct_biases(&self, train_logits: &[f32], test_logits: &[f32]) -> Vec<BiasCorrection> {
        let (train, test) = (&self.split.train, &self.split.test);
        let classes = train.classes();
        let correct = |&class: &usize| {
            let errors = |shift: f32| -> usize {
                errors_per_class(train_logits, train.labels(), classes, Some((class, shift)))
                    .iter()
                    .sum()
            };
            let shifts = (-100..=200).map(|tenth| tenth as f32 / 10.0);
            let shift = shifts
                .map(|shift| (errors(shift), shift))
                .min_by(|a, b| a.0.cmp(&b.0).then(a.1.abs().total_cmp(&b.1.abs())))
                .map_or(0.0, |(_, shift)| shift);
            let wrong = errors_per_class(test_logits, test.labels(), classes, Some((class, shift)));
            BiasCorrection {
                class,
                shift,
                errors: wrong.iter().sum(),
                errors_of_class: wrong[class],
            }
        };
        self.recipe.distil.omit_classes.iter().map(correct).collect()
    }

    /// A teacher that is a file of logits: of the training examples, and perhaps of the test examples.
    fn given_logits(&self, path: &Path) -> Result<MeasuredTeacher, Error> {
        let classes = self.split.train.classes();
        let bad = |problem: String| Error::Model { path: path.display().to_string(), problem };
        let read = |name: &str, rows: usize| -> Result<Vec<f32>, Error> {
            let (found, columns, values) = data::read_logits(path, name)?;
            if (found, columns) != (rows, classes) {
                let needed =
                    format!("[{rows}, {classes}]: one row for each example, in the data's order");
                return Err(bad(format!(
                    "`{name}` is [{found}, {columns}], the data needs {needed}"
                )));
            }
            Ok(values)
        };
        let all = read("train", self.split.train.len())?;
        let mut rows = self.split.train.rows_without_classes(&self.recipe.distil.omit_classes)?;
        rows.truncate(self.students.len());
        let row = |&row: &u32| &all[row as usize * classes..][..classes];
        let values: Vec<f32> = rows.iter().flat_map(row).copied().collect();
        let answers = match read("test", self.split.test.len()) {
            Err(Error::Data(DataError::MissingTensor { .. })) => None,
            answers => Some(answers?),
        };
        let arm = answers.as_ref().map(|logits| self.count(logits, None));
        Ok((Teacher::Logits { values, classes }, arm, answers))
    }
}

/// What the students learn from: the training data, less what the recipe keeps from them.
pub(crate) fn student_data(recipe: &Recipe, train: &Dataset) -> Result<Dataset, Error> {
    let data = train.without_classes(&recipe.distil.omit_classes)?;
    Ok(match recipe.distil.train_limit {
        Some(limit) => data.take(limit),
        None => data,
    })
}

/// The normalisation of a teacher that is loaded, since its answers hold for that alone; else the recipe's.
fn normalisation(
    recipe: &Recipe,
    split: &Split,
    teacher: Option<&ModelConfig>,
) -> Result<Normalisation, Error> {
    let asked = split.train.examples().normalisation_for(&recipe.data.normalise)?;
    match teacher.map(|teacher| &teacher.normalisation) {
        None => Ok(asked),
        Some(theirs) if recipe.data.normalise == Normalise::Standardise || *theirs == asked => {
            Ok(theirs.clone())
        }
        Some(theirs) => Err(Error::Model {
            path: "data.normalise".to_owned(),
            problem: format!(
                "the teacher was trained with {theirs:?}: leave the key out, and that is used"
            ),
        }),
    }
}

/// Refuses a loaded teacher that is for other data.
fn fits(config: &ModelConfig, split: &Split) -> Result<(), Error> {
    config.check_examples(split.train.examples())?;
    let (theirs, ours) = (&config.class_names, split.train.class_names());
    let places = data::class_places(ours, theirs)?;
    if theirs.len() == ours.len() && places.into_iter().eq(0..ours.len()) {
        return Ok(());
    }
    Err(Error::Model {
        path: "teacher.folder".to_owned(),
        problem: format!(
            "the teacher's classes are {}, and the data's {}: they must be the same, in the same order",
            theirs.join(", "),
            ours.join(", ")
        ),
    })
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { path, source }
}

/// The run's folder: the recipe's `out`, or the first free of runs/<name>, runs/<name>-2, …
fn choose_folder(recipe: &Recipe, replace: bool) -> Result<PathBuf, Error> {
    let used = |path: &Path| path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let default = Path::new("runs").join(&recipe.name);
    Ok(match &recipe.out {
        Some(out) if used(out) && !replace => {
            return Err(Error::Model {
                path: out.display().to_string(),
                problem:
                    "holds files already: choose another folder (--out), or --force to replace \
                          the run in it"
                        .to_owned(),
            });
        }
        Some(out) => out.clone(),
        None if replace || !used(&default) => default,
        None => (2..)
            .map(|n| PathBuf::from(format!("{}-{n}", default.display())))
            .find(|path| !used(path))
            .expect("some number is free"),
    })
}

/// Makes the run's folder. Of an earlier run in it, the report and the models go: should this run fail,
/// they would pass for its own.
fn prepare_folder(recipe: &Recipe, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let teacher = match &recipe.teacher {
        recipe::Teacher::Folder { folder } => folder.canonicalize().ok(),
        _ => None,
    };
    let mut old = vec![folder.join("report.json")];
    for arm in [Arm::Teacher, Arm::Control, Arm::Distilled].map(|arm| folder.join(arm.folder())) {
        if teacher.is_none() || arm.canonicalize().ok() != teacher {
            old.extend([models::CONFIG, models::WEIGHTS].map(|name| arm.join(name)));
        }
    }
    for path in old.into_iter().filter(|path| path.exists()) {
        fs::remove_file(&path).map_err(io(&path))?;
    }
    Ok(())
}

/// Writes `metrics.jsonl` and passes every event on.
struct Log<'a> {
    path: PathBuf,
    file: BufWriter<File>,
    failed: Option<std::io::Error>,
    start: Instant,
    next: &'a mut dyn Observer,
}

impl<'a> Log<'a> {
    fn create(folder: &Path, next: &'a mut dyn Observer) -> Result<Self, Error> {
        let path = folder.join("metrics.jsonl");
        let file = File::create(&path).map_err(io(&path))?;
        Ok(Self { path, file: BufWriter::new(file), failed: None, start: Instant::now(), next })
    }

    fn note(&mut self, note: &str) {
        self.next.event(&Event::Note(note));
    }

    fn finish(self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), |source| Err(io(&self.path)(source)))
    }
}

impl Observer for Log<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Epoch { arm, epoch, step, learning_rate, train, test } = event {
            let line = json!({
                "arm": arm.name(),
                "epoch": epoch,
                "step": step,
                "learning_rate": learning_rate,
                "seconds": self.start.elapsed().as_secs_f64(),
                "train": train,
                "test": test,
            });
            let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
            if let (Err(error), None) = (written, &self.failed) {
                self.failed = Some(error);
            }
        }
        self.next.event(event);
    }
}

/// Share of rows whose largest logit is in the same place.
fn agreement(ours: &[f32], theirs: &[f32], classes: usize) -> f64 {
    let best =
        |row: &[f32]| (1..classes).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let rows = ours.chunks_exact(classes).zip(theirs.chunks_exact(classes));
    let same = rows.filter(|(a, b)| best(a) == best(b)).count();
    same as f64 * classes as f64 / ours.len() as f64
}
