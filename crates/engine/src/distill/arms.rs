//! A run: teacher, control and distilled student, trained, measured and saved.

use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoints};
use super::guesses::{Likeliest, guess, in_words};
use super::journal::Journal;
use super::log::{self, Log};
use super::measure::{Taken, agreement, compare, count, speeds};
use super::saved::{Measured, MeasuredTeacher, Saved};
use super::setup::Setup;
use super::teacher::Teacher;
use super::tensorboard;
use super::{Arm, Event, Observer};
use crate::data::{self, DataError, Dataset, Split, Texts};
use crate::device::Device;
use crate::error::Error;
use crate::files::{io_error, write_atomically};
use crate::models::{self, Feed, ModelConfig};
use crate::recipe::{self, Recipe, Task};
use crate::report::{self, Arms, Examples, Report};
use crate::store::{Storage, Store};

/// A finished run.
#[derive(Debug)]
pub struct Run {
    /// Where its results lie.
    pub folder: PathBuf,
    /// What it measured.
    pub report: Report,
}

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// In an empty folder.
    New,
    /// In the place of an earlier run.
    Replace,
    /// Where an interrupted run stopped: the recipe's `out` is its folder.
    Resume,
}

/// A run that has read all it works with, and written nothing.
#[derive(Debug)]
pub struct Prepared<'a> {
    recipe: &'a Recipe,
    begin: Begin,
    folder: PathBuf,
    setup: Setup,
    /// A teacher that is no model.
    given: Option<MeasuredTeacher>,
}

/// Chooses a run's folder, and reads the recipe's data and models.
///
/// # Errors
/// When the folder holds files already, or data or teacher cannot be used.
pub fn prepare(recipe: &Recipe, begin: Begin) -> Result<Prepared<'_>, Error> {
    let folder = choose_folder(recipe, begin)?;
    let copy = folder.join(Arm::Teacher.folder());
    let copied = begin == Begin::Resume && copy.join(models::CONFIG).is_file();
    let setup = Setup::read(recipe, copied.then_some(&copy))?;
    let given = match &recipe.teacher {
        recipe::Teacher::Logits { logits } => Some(given_logits(recipe, &setup, logits)?),
        _ => None,
    };
    Ok(Prepared { recipe, begin, folder, setup, given })
}

impl Prepared<'_> {
    /// The recipe's data and models.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }
}

/// Trains, saves and measures the three arms.
///
/// # Errors
/// When the device cannot be used, the loss stops being a number, the observer asks to stop, or results cannot
/// be written. What was finished before stays in the run's folder.
pub fn run(
    prepared: Prepared<'_>,
    device: &mut dyn Device,
    observer: &mut dyn Observer,
) -> Result<Run, Error> {
    let Prepared { recipe, begin, folder, setup, given } = prepared;
    recipe.precision.check(&device.caps(), &device.info().name)?;
    let resolved = recipe.to_toml()?;
    let notes = setup.notes()?;
    let Setup { split, students, teacher: teacher_config, student, .. } = &setup;

    // What can be refused beforehand has been: from here on there are files.
    let (journal, note) = match begin {
        Begin::Resume => {
            let (journal, other) = Journal::open(&folder, split, device.info())?;
            device.choose(journal.choices.clone());
            if let Some(config) = teacher_config {
                check_finished(&journal, &folder, Arm::Teacher, config)?;
            }
            check_finished(&journal, &folder, Arm::Control, student)?;
            check_finished(&journal, &folder, Arm::Distilled, student)?;
            let name = &device.info().name;
            let note = other.map(|before| {
                format!(
                    "This run began on {before}; on {name} its numbers may differ in the last bits"
                )
            });
            (journal, note)
        }
        Begin::New | Begin::Replace => {
            prepare_folder(recipe, &folder)?;
            (Journal::begin(&folder, split, device)?, None)
        }
    };
    write_atomically(&folder.join("recipe.toml"), resolved.as_bytes())?;
    let checkpoints = Checkpoints::new(&folder, recipe.checkpoint_seconds);
    let steps = checkpoints.steps()?;
    let kept = |arm: Arm, step: u32| {
        journal.finished(arm).is_some() || steps.get(&arm).is_some_and(|saved| step <= *saved)
    };
    let mut log = Log::open(&folder, recipe.tensorboard, kept, observer)?;
    log.begin_after(journal.seconds);
    log.event(&Event::Opened { folder: &folder });
    notes.iter().chain(&note).for_each(|note| log.note(note));
    if let recipe::Teacher::Folder { folder, .. } = &recipe.teacher {
        log.note(&format!("The teacher comes from {folder}"));
    }
    let mut work = Work { recipe, setup: &setup, folder: &folder, journal, checkpoints, log };

    let mut guessed = Vec::new();
    let (teacher, teacher_arm, answers) = match (given, teacher_config) {
        (Some(given), _) => given,
        (None, Some(config)) => {
            let measured = work.arm(device, Arm::Teacher, None)?;
            guessed.push(guess_test(device, config, &measured.store, split)?);
            measured.into_teacher(config)
        }
        (None, None) => unreachable!("a teacher that is no model is a file of logits"),
    };
    let Measured { store, report: control, logits: alone, .. } =
        work.arm(device, Arm::Control, None)?;
    guessed.push(guess_test(device, student, &store, split)?);
    store.free(device);
    let lesson = Some((&teacher, answers.as_deref()));
    let Measured { store, report: distilled, logits, agreement: agrees } =
        work.arm(device, Arm::Distilled, lesson)?;
    guessed.push(guess_test(device, student, &store, split)?);

    let mut arms = Arms { teacher: teacher_arm, control, distilled };
    // The students are one model: that they learnt differently changes nothing of their speed.
    let mut timed = vec![(student, &store)];
    if let Teacher::Model { config, store } = &teacher {
        timed.push((config, store));
    }
    let speeds = speeds(device, &timed, split.test.examples())?;
    arms.control.set_speed(&speeds[0]);
    arms.distilled.set_speed(&speeds[0]);
    if let (Some(teacher), Some(speed)) = (&mut arms.teacher, speeds.get(1)) {
        teacher.set_speed(speed);
    }
    store.free(device);
    if let (Task::Embedding, Some(answers), Some(config)) = (recipe.task, &answers, teacher_config)
    {
        let (theirs, width) = ((&**answers, config.answer_len()), student.answer_len());
        arms.teacher.iter_mut().for_each(|teacher| compare(teacher, theirs, theirs));
        compare(&mut arms.control, (&alone, width), theirs);
        compare(&mut arms.distilled, (&logits, width), theirs);
    }
    let (retained, gap_closed) = Report::ratios(&arms);
    let labelled = recipe.task == Task::Classification;
    let known = answers.as_ref().filter(|_| labelled);
    let agreement = match known {
        Some(answers) => Some(agreement(&logits, answers, split.test.classes())),
        None => agrees,
    };
    if let ([teacher, alone, distilled], true) = (&guessed[..], student.input.masks()) {
        let test = Feed::new(&student.input, split.test.examples())?;
        if let Some(guesses) = in_words(student, &test, [teacher, alone, distilled])? {
            guesses.write(&folder)?;
        }
    }
    let masked = match student.input.masks() {
        true => Some(Feed::new(&student.input, split.test.examples())?.masked_tokens()),
        false => None,
    };
    if labelled {
        let logits =
            report::TestLogits { teacher: answers.as_deref(), control: &alone, distilled: &logits };
        let (examples, labels) = (split.test.examples(), split.test.need_labels()?);
        let temperature = recipe.distil.temperature;
        report::Answers::collect(examples, labels, temperature, logits).write(&folder)?;
    }
    let info = device.info();
    let report = Report {
        name: recipe.name.clone(),
        task: recipe.task,
        arms,
        retained,
        gap_closed,
        agreement,
        target: recipe.target,
        examples: Examples {
            teacher: split.train.len(),
            students: students.len(),
            unlabelled: split.unlabelled.as_ref().map(Texts::len),
            test: split.test.len(),
            validation: split.validation.as_ref().map(Dataset::len),
            masked,
        },
        seed: recipe.seed,
        device: info.name.clone(),
        backend: format!("{} {}", info.backend, info.driver).trim_end().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seconds: work.log.seconds(),
    };
    let Work { log, checkpoints, .. } = work;
    log.finish()?;
    let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
    write_atomically(&folder.join(report::REPORT), format!("{json}\n").as_bytes())?;
    report::write_page(&folder)?;
    checkpoints.remove()?;
    Ok(Run { folder, report })
}

/// What a language model guesses of some masked tokens of the test set; nothing if it is none.
fn guess_test(
    device: &mut dyn Device,
    config: &ModelConfig,
    store: &Store,
    split: &Split,
) -> Result<Likeliest, Error> {
    let test = Feed::new(&config.input, split.test.examples())?;
    guess(device, (config, store), &test)
}

/// What every arm works with.
struct Work<'a> {
    recipe: &'a Recipe,
    setup: &'a Setup,
    folder: &'a Path,
    journal: Journal,
    checkpoints: Checkpoints,
    log: Log<'a>,
}

impl Work<'_> {
    /// Trains or copies an arm's model, measures it and enters it as finished, or takes what an interrupted
    /// run has of that. `teacher` comes with its logits of the test set.
    fn arm(
        &mut self,
        device: &mut dyn Device,
        arm: Arm,
        teacher: Option<(&Teacher, Option<&[f32]>)>,
    ) -> Result<Measured, Error> {
        let Self { recipe, setup, folder, journal, checkpoints, log } = self;
        let start = setup.start(arm, &folder.join(Arm::Teacher.folder()))?;
        let folder = folder.join(arm.folder());
        let lesson = setup.lesson(recipe, arm, &start, teacher);
        let known = journal.finished(arm).cloned();
        let finished = known.is_some();
        let saved = match (finished, setup.loaded(arm)) {
            (true, _) => Saved::load(&folder, lesson.config)?,
            (false, Some(parameters)) => Saved::copy(&folder, lesson.config, parameters)?,
            (false, None) => Saved::train(device, &lesson, &folder, checkpoints, log)?,
        };
        let omitted = &recipe.distil.omit_classes;
        let storage = if arm == Arm::Teacher { recipe.teacher.weights() } else { Storage::F32 };
        let teacher = teacher.map(|(teacher, _)| teacher);
        let measured = saved.measure(device, storage, &setup.split, omitted, known, teacher)?;
        if !finished {
            journal.finish(arm, &measured.report, log.seconds())?;
            checkpoints.clear(arm)?;
        }
        Ok(measured)
    }
}

/// Refuses to go on with an arm that was finished as another model.
fn check_finished(
    journal: &Journal,
    run: &Path,
    arm: Arm,
    config: &ModelConfig,
) -> Result<(), Error> {
    let folder = run.join(arm.folder());
    if journal.finished(arm).is_none() || models::load_config(&folder)? == *config {
        return Ok(());
    }
    let problem =
        "this arm is finished, with another model than the recipe asks for now: start anew";
    Err(Error::Model { path: folder.display().to_string(), problem: problem.to_owned() })
}

/// A teacher's raw logits [examples, classes] of what is learnt from, out of a file for all that was given.
pub(super) fn train_logits(split: &Split, path: &Path) -> Result<Vec<f32>, Error> {
    let classes = split.train.classes();
    Ok(split.of_train(logits_of((split.given(), classes), path, "train")?, classes))
}

/// A teacher's raw logits [rows, classes] of a data set, from a file.
fn logits_of((rows, classes): (usize, usize), path: &Path, name: &str) -> Result<Vec<f32>, Error> {
    let (found, columns, values) = data::read_logits(path, name)?;
    if (found, columns) == (rows, classes) {
        return Ok(values);
    }
    let needed = format!("[{rows}, {classes}]: one row for each example, in the data's order");
    Err(Error::Model {
        path: path.display().to_string(),
        problem: format!("`{name}` is [{found}, {columns}], the data needs {needed}"),
    })
}

/// A teacher that is a file of logits: of the training examples, and perhaps of the test examples.
pub(super) fn given_logits(
    recipe: &Recipe,
    setup: &Setup,
    path: &Path,
) -> Result<MeasuredTeacher, Error> {
    let split = &setup.split;
    let teacher = setup.answers(recipe, &train_logits(split, path)?)?;
    let test = (split.test.len(), split.test.classes());
    let answers = match logits_of(test, path, "test") {
        Err(Error::Data(DataError::MissingTensor { .. })) => None,
        answers => Some(answers?),
    };
    let arm = match &answers {
        Some(logits) => Some(count(split.test.need_labels()?, logits, Taken::default())),
        None => None,
    };
    Ok((teacher, arm, answers))
}

/// The run's folder: the recipe's `out`, or the first free of runs/<name>, runs/<name>-2, …
pub(super) fn choose_folder(recipe: &Recipe, begin: Begin) -> Result<PathBuf, Error> {
    let used = |path: &Path| path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let default = Path::new("runs").join(&recipe.name);
    Ok(match &recipe.out {
        Some(out) if used(out) && begin == Begin::New => {
            return Err(Error::Model {
                path: out.display().to_string(),
                problem:
                    "holds files already: choose another folder (--out), --force to replace the run \
                          in it, or --resume to go on with one that was interrupted"
                        .to_owned(),
            });
        }
        Some(out) => out.clone(),
        None if begin == Begin::Replace || !used(&default) => default,
        None => (2..)
            .map(|n| PathBuf::from(format!("{}-{n}", default.display())))
            .find(|path| !used(path))
            .expect("some number is free"),
    })
}

/// Makes the run's folder. Of an earlier run in it, the report and the models go: should this run fail,
/// they would pass for its own.
fn prepare_folder(recipe: &Recipe, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let teacher = match &recipe.teacher {
        recipe::Teacher::Folder { folder, .. } => folder.folder()?.canonicalize().ok(),
        _ => None,
    };
    for old in [checkpoint::FOLDER, tensorboard::FOLDER].map(|name| folder.join(name)) {
        if old.is_dir() {
            fs::remove_dir_all(&old).map_err(io_error(&old))?;
        }
    }
    let (answers, guesses) = (report::answers::FILE, report::guesses::FILE);
    let mut old = [report::REPORT, answers, guesses, report::PAGE, log::NAME]
        .map(|name| folder.join(name))
        .to_vec();
    for arm in Arm::ALL.map(|arm| folder.join(arm.folder())) {
        if teacher.is_none() || arm.canonicalize().ok() != teacher {
            old.extend([models::CONFIG, models::WEIGHTS].map(|name| arm.join(name)));
        }
    }
    for path in old.into_iter().filter(|path| path.exists()) {
        fs::remove_file(&path).map_err(io_error(&path))?;
    }
    Ok(())
}
