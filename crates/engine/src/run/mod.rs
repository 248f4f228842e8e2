//! A run: teacher, control and distilled student, trained, measured and saved.
//!
//! ```no_run
//! use distil_gpu_engine::prelude::*;
//!
//! let recipe = Recipe::default().name("small").student(Model::mlp([64])).checked()?;
//! let mut device = select(Choice::Auto, GpuOptions::default())?.device;
//! let finished = run(prepare(&recipe, Begin::New)?, &mut *device, &mut Silent)?;
//! println!("{}: {}", finished.folder.display(), finished.report.sentence());
//! # Ok::<(), Error>(())
//! ```

pub(crate) mod answer_file;
pub(crate) mod arm;
mod asked;
pub(crate) mod cached;
pub(crate) mod cut;
pub(crate) mod events;
mod grid;
pub(crate) mod journal;
mod label;
pub(crate) mod lines;
mod loaded;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod place;
pub(crate) mod replace;
pub(crate) mod settings;
pub(crate) mod setup;
mod students;
pub(crate) mod sweep;
pub(crate) mod tensorboard;

pub use answer_file::{Answerer, Answers, save_answers};
pub use events::{Event, Observer, Silent};
pub(crate) use grid::GRID;
pub use grid::{Axis, Grid};
pub use label::{Labelled, Labelling, Shard, label, verify};
pub use setup::Setup;
pub use sweep::{Sweep, sweep};

use std::path::{Path, PathBuf};

use crate::data::{self, DataError, Dataset, Split, Texts};
use crate::device::Device;
use crate::error::Error;
use crate::files::{remove_temporary, write_atomically};
use crate::forecast::main_memory;
use crate::measure::arm::{Taken, Test, report as measured_report, speeds};
use crate::measure::influence::INFLUENCE;
use crate::measure::predictions::{Likeliest, guess, in_words};
use crate::measure::ranking::RANKING;
use crate::measure::{continuations, own_texts};
use crate::models::{self, BatchEncoder, Input, ModelConfig, Output};
use crate::objective::{RawAnswers, TeacherAnswers};
use crate::recipe::{self, Recipe};
use crate::results::{self, Arm, Arms, Examples, Report};
use crate::sealed::Files;
use crate::store::Store;
use crate::task::{Measured, TaskRef, with_own_texts};
use crate::train::Checkpoints;
use answer_file::check_answers;
use arm::{MeasuredTeacher, Saved, TestedModel};
use journal::Journal;
use lock::FolderLock;
use log::Log;
use replace::is_used;
use settings::Settings;

/// Name of the resolved recipe in a run's folder.
pub(crate) const RECIPE: &str = "recipe.toml";

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
    Resume {
        /// Whether it may go on with another recipe or other data than it began with.
        accept_changes: bool,
    },
}

/// A run that has its folder and has read all it works with. Of a new one, nothing is written yet.
#[derive(Debug)]
pub struct Prepared<'a> {
    recipe: &'a Recipe,
    setup: Setup,
    /// A teacher that is no model.
    given: Option<MeasuredTeacher>,
    folder: Folder,
    notes: Vec<String>,
}

/// A run's folder.
#[derive(Debug)]
struct Folder {
    /// Nobody else works in it.
    lock: FolderLock,
    state: State,
}

/// What is in a run's folder.
#[derive(Debug)]
enum State {
    /// Nothing, or an earlier run that is to be replaced.
    New(Option<Journal>),
    /// An interrupted run.
    Begun { journal: Journal, accept_changes: bool },
}

/// Chooses and locks a run's folder, and reads the recipe's data and models.
///
/// # Errors
/// When another process works in the folder, it holds files that are not to be replaced, the recipe is not the one that
/// is resumed, or data or teacher cannot be used.
pub fn prepare(recipe: &Recipe, begin: Begin) -> Result<Prepared<'_>, Error> {
    let lock = claim(recipe, begin)?;
    let folder = lock.folder();
    let mut notes: Vec<String> = lock.note().into_iter().collect();
    let mut copy = None;
    let state = match begin {
        Begin::New => State::New(None),
        Begin::Replace => State::New(replace::check(folder, teacher_folder(recipe)?.as_deref())?),
        Begin::Resume { accept_changes } => {
            let (mut journal, damaged) = Journal::resume(folder, false)?;
            let checkpoints = Checkpoints::new(folder, 0.0);
            let settings = Settings::of(recipe)?;
            journal.go_on(settings, None, accept_changes, &trained(&journal, &checkpoints)?)?;
            notes.extend(damaged);
            notes.extend(checkpoints.set_damaged_aside()?);
            let is_copied = journal.finished(Arm::Teacher).is_some();
            copy = is_copied.then(|| folder.join(Arm::Teacher.folder()));
            State::Begun { journal, accept_changes }
        }
    };
    let setup = Setup::read(recipe, copy.as_deref())?;
    let given = match &recipe.teacher {
        recipe::Teacher::Logits { logits } => {
            let given = given_logits(&setup, logits)?;
            notes.extend(check_answers(logits, &setup.split)?);
            Some(given)
        }
        _ => None,
    };
    notes.extend(setup.notes()?);
    Ok(Prepared { recipe, setup, given, folder: Folder { lock, state }, notes })
}

/// What a run has trained so far, in words.
fn trained(journal: &Journal, checkpoints: &Checkpoints) -> Result<Vec<String>, Error> {
    let steps = checkpoints.steps()?;
    let words = |arm: Arm| match (journal.finished(arm), steps.get(&arm)) {
        (Some(_), _) => Some(format!("the {}", arm.title())),
        (None, Some(step)) => Some(format!("the {} up to step {step}", arm.title())),
        (None, None) => None,
    };
    Ok(Arm::ALL.into_iter().filter_map(words).collect())
}

/// The folder that a recipe's teacher is loaded from, as the system calls it.
fn teacher_folder(recipe: &Recipe) -> Result<Option<PathBuf>, Error> {
    match &recipe.teacher {
        recipe::Teacher::Folder { folder, .. } => Ok(folder.folder()?.canonicalize().ok()),
        _ => Ok(None),
    }
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
/// When the device cannot be used, a training diverges, the observer asks to stop, or results cannot
/// be written. What was finished before stays in the run's folder.
pub fn run(
    prepared: Prepared<'_>,
    device: &mut dyn Device,
    observer: &mut dyn Observer,
) -> Result<Run, Error> {
    let Prepared { recipe, setup, given, folder: Folder { lock, state }, mut notes } = prepared;
    let folder = lock.folder().to_owned();
    recipe.precision.check(&device.caps(), &device.info().name)?;
    main_memory::check(recipe, &setup, device.info())?;
    let Setup { split, teacher: teacher_config, student, .. } = &setup;

    // What can be refused beforehand has been: from here on there are files.
    let opened = Opened { recipe, setup: &setup, folder: &folder };
    let journal = opened.journal(state, device, &mut notes)?;
    let checkpoints = Checkpoints::new(&folder, recipe.checkpoint_seconds);
    let steps = checkpoints.steps()?;
    let kept = |arm: Arm, step: u32| {
        journal.finished(arm).is_some() || steps.get(&arm).is_some_and(|saved| step <= *saved)
    };
    let mut log = Log::open(&folder, recipe.tensorboard, kept, observer)?;
    log.begin_after(journal.seconds);
    log.event(&Event::Opened { folder: &folder });
    notes.iter().chain(&journal.warnings).for_each(|note| log.note(note));
    if let recipe::Teacher::Folder { folder, .. } = &recipe.teacher {
        log.note(&format!("The teacher comes from {folder}"));
    }
    let students;
    let mut work = Work { recipe, setup: &setup, folder: &folder, journal, checkpoints, log };

    let mut guessed = Vec::new();
    let teacher = work.teacher(device, given, teacher_config.as_ref(), &mut guessed)?;
    let answers = teacher.test_answers();
    let found = work.found(device)?;
    if let Some(cut) = found.students(recipe, &setup)? {
        students = cut;
        work.setup = &students;
    }
    let before = work.before(device, &*teacher.teacher)?;
    let TestedModel { store, report: control, answers: alone, .. } =
        work.arm(device, Arm::Control, Some(&*teacher.teacher), answers)?;
    guessed.push(guess_test(device, student, &store, split)?);
    store.free(device);
    let TestedModel { store, report: distilled, answers: own, agreement: beside } =
        work.arm(device, Arm::Distilled, Some(&*teacher.teacher), answers)?;
    guessed.push(guess_test(device, student, &store, split)?);

    let mut arms = Arms { teacher: teacher.report.clone(), control, distilled };
    // The students are one model: that they learnt differently changes nothing of their speed.
    let timed: Vec<_> = [(student, &store)].into_iter().chain(teacher.teacher.model()).collect();
    let speeds = speeds(device, &timed, split.test.examples(), work.log.seconds())?;
    arms.control.set_speed(&speeds[0]);
    arms.distilled.set_speed(&speeds[0]);
    if let (Some(teacher), Some(speed)) = (&mut arms.teacher, speeds.get(1)) {
        teacher.set_speed(speed);
    }
    store.free(device);
    let agreement = setup.agreement(&own, answers)?.or(beside);
    let logits = results::TestLogits {
        teacher: teacher.answers.as_deref(),
        control: &alone,
        distilled: &own,
    };
    write_for_page(&work, &guessed, logits)?;
    let info = device.info();
    let mut report = Report {
        name: recipe.name.clone(),
        task: recipe.task,
        arms,
        retained: None,
        gap_closed: None,
        majority: majority(&setup)?,
        agreement,
        target: recipe.target,
        examples: examples(&setup)?,
        seed: recipe.seed,
        device: info.name.clone(),
        backend: format!("{} {}", info.backend, info.driver).trim_end().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seconds: work.log.seconds(),
        classes: results::ClassReport::all(&split.test),
        warnings: work.journal.warnings.clone(),
        before,
        influence: found.influence,
    };
    report.judge();
    teacher.teacher.free(device);
    let sets = (&split.train, &split.test);
    let stored = |arm| setup.stored(arm);
    if let Some(mut texts) = continuations::texts(device, &folder, student, sets, &stored)? {
        texts.written = results::Written::some(&folder)?;
        texts.write(&folder)?;
    }
    finish(work, &report)?;
    Ok(Run { folder, report })
}

/// Writes what the page shows of the models' answers: the logits of classifiers, the guesses of language models.
fn write_for_page(
    work: &Work<'_>,
    guessed: &[Likeliest],
    logits: results::TestLogits<'_>,
) -> Result<(), Error> {
    let Setup { split, student, .. } = work.setup;
    if let ([teacher, alone, distilled], true) = (guessed, student.input.masks()) {
        let test = BatchEncoder::new(&student.input, split.test.examples())?;
        if let Some(guesses) = in_words(student, &test, [teacher, alone, distilled])? {
            guesses.write(work.folder)?;
        }
    }
    if let (Some(labels), false) = (split.test.class_labels(), logits.distilled.is_empty()) {
        let temperature = work.recipe.distil.temperature;
        let examples = split.test.examples();
        results::Answers::collect(examples, labels, temperature, logits).write(work.folder)?;
    }
    Ok(())
}

/// Writes the report, and removes what only an interrupted run needs.
fn finish(work: Work<'_>, report: &Report) -> Result<(), Error> {
    let Work { log, checkpoints, journal, folder, .. } = work;
    log.finish()?;
    let json = serde_json::to_string_pretty(report).expect("a report is plain data");
    write_atomically(&folder.join(results::REPORT), format!("{json}\n").as_bytes())?;
    checkpoints.remove()?;
    journal.end()
}

/// How many examples the models learnt from and were measured on.
fn examples(setup: &Setup) -> Result<Examples, Error> {
    let Setup { split, students, student, .. } = setup;
    let masked = match student.output() {
        Output::Vocabulary(_) => {
            Some(BatchEncoder::new(&student.input, split.test.examples())?.guessed_tokens())
        }
        _ => None,
    };
    Ok(Examples {
        teacher: split.train.len(),
        students: students.len(),
        unlabelled: split.unlabelled.as_ref().map(Texts::len),
        test: split.test.len(),
        validation: split.validation.as_ref().map(Dataset::len),
        masked,
    })
}

/// A run whose folder is open.
struct Opened<'a> {
    recipe: &'a Recipe,
    setup: &'a Setup,
    folder: &'a Path,
}

impl Opened<'_> {
    /// Begins the run's journal, or goes on with it, and writes the recipe as it was resolved.
    fn journal(
        &self,
        state: State,
        device: &mut dyn Device,
        notes: &mut Vec<String>,
    ) -> Result<Journal, Error> {
        let Self { recipe, setup, folder } = *self;
        let Setup { split, teacher: teacher_config, student, .. } = setup;
        let resolved = recipe.to_toml()?;
        Ok(match state {
            State::Begun { mut journal, accept_changes } => {
                let done = trained(&journal, &Checkpoints::new(folder, 0.0))?;
                journal.go_on_with(split, accept_changes, &done)?;
                if accept_changes {
                    // What was found out of the students before may no more hold.
                    for name in [INFLUENCE, RANKING] {
                        crate::sealed::remove_file(&folder.join(name))?;
                    }
                }
                notes.extend(journal.go_on_on(device.info()));
                device.choose(journal.choices.clone());
                if let Some(config) = teacher_config {
                    check_finished(&journal, folder, Arm::Teacher, config)?;
                }
                check_finished(&journal, folder, Arm::Control, student)?;
                check_finished(&journal, folder, Arm::Distilled, student)?;
                // The recipe first: were this cut short, the change would be told again.
                write_atomically(&folder.join(RECIPE), resolved.as_bytes())?;
                journal.write()?;
                journal
            }
            State::New(replaced) => {
                if let Some(replaced) = replaced {
                    replace::clear(folder, &replaced, teacher_folder(recipe)?.as_deref())?;
                }
                remove_temporary(folder)?;
                let journal = Journal::begin(folder, Settings::of(recipe)?, None, split, device)?;
                write_atomically(&folder.join(RECIPE), resolved.as_bytes())?;
                journal
            }
        })
    }
}

/// Score of always giving the most frequent answer of the test set, where there is such an answer.
pub(crate) fn majority(setup: &Setup) -> Result<Option<f64>, Error> {
    let (test, student) = (&setup.split.test, &setup.student);
    let feed = BatchEncoder::new(&student.input, test.examples())?;
    Ok(TaskRef::of_model(student).majority(test, &feed))
}

/// What a language model guesses of some masked tokens of the test set; nothing if it is none.
fn guess_test(
    device: &mut dyn Device,
    config: &ModelConfig,
    store: &Store,
    split: &Split,
) -> Result<Likeliest, Error> {
    let test = BatchEncoder::new(&config.input, split.test.examples())?;
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
    /// The teacher as it was given, or trained or read, and measured; what it guesses of a test set goes to `guessed`.
    fn teacher(
        &mut self,
        device: &mut dyn Device,
        given: Option<MeasuredTeacher>,
        config: Option<&ModelConfig>,
        guessed: &mut Vec<Likeliest>,
    ) -> Result<MeasuredTeacher, Error> {
        match (given, config) {
            (Some(given), _) => Ok(given),
            (None, Some(config)) => {
                let measured = self.arm(device, Arm::Teacher, None, None)?;
                guessed.push(guess_test(device, config, &measured.store, &self.setup.split)?);
                Ok(measured.into_teacher(config))
            }
            (None, None) => unreachable!("a teacher that is no model is a file of logits"),
        }
    }

    /// Trains or copies an arm's model, measures it and enters it as finished, or takes what an interrupted
    /// run has of that. A student's answers are compared with its teacher's, of which `answers` are those to the test set; the
    /// student distilled learns them.
    fn arm(
        &mut self,
        device: &mut dyn Device,
        arm: Arm,
        teacher: Option<&dyn TeacherAnswers>,
        answers: Option<RawAnswers<'_>>,
    ) -> Result<TestedModel, Error> {
        let Self { recipe, setup, folder, journal, checkpoints, log } = self;
        let start = setup.start(arm, &folder.join(Arm::Teacher.folder()))?;
        let folder = folder.join(arm.folder());
        // Before any student is trained.
        if let (Arm::Control, Some(teacher)) = (arm, teacher) {
            cached::check(device, setup, teacher)?.iter().for_each(|note| log.note(note));
        }
        let kept = teacher.filter(|_| arm == Arm::Distilled).and_then(|own| setup.cached(own));
        let teacher = kept.as_ref().map(|kept| kept as &dyn TeacherAnswers).or(teacher);
        let taught = teacher.filter(|_| arm == Arm::Distilled).map(|teacher| (teacher, answers));
        let job = setup.job(recipe, arm, &start, taught);
        let known = journal.finished(arm).cloned();
        let finished = known.is_some();
        let mut enter = |files: &Files| journal.saving(arm, files);
        let saved = match (finished, setup.loaded(arm)) {
            (true, _) => Saved::load(&folder, job.config)?,
            (false, Some(parameters)) => Saved::copy(&folder, job.config, parameters, &mut enter)?,
            (false, None) => Saved::train(device, &job, &folder, checkpoints, log, &mut enter)?,
        };
        let test = Test { teacher, ..setup.test(&setup.omitted, answers) };
        let mut measured = saved.measure(device, setup.stored(arm), &test, known)?;
        if let (Some(teacher), Some(how), false) = (teacher, &recipe.distil.on_policy, finished) {
            let (model, how) = ((job.config, &measured.store), (how, recipe.seed));
            let own = own_texts::measure(device, model, teacher, how, &setup.split.test)?;
            let scores = std::mem::take(&mut measured.report.scores);
            measured.report.scores = with_own_texts(scores, &own);
        }
        if !finished {
            journal.finish(arm, &measured.report, log.seconds())?;
            checkpoints.clear(arm)?;
            if arm != Arm::Distilled && log.stop() {
                measured.store.free(device);
                let step = measured.report.steps.unwrap_or(0);
                return Err(log.cause(Error::Interrupted { arm: arm.name(), step }));
            }
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
    if journal.finished(arm).is_none() {
        return Ok(());
    }
    let mut found = models::load_config(&folder)?;
    // How much of a text is read at once is the recipe's, which the journal has compared.
    if let (Input::Tokens(found), Input::Tokens(own)) = (&mut found.input, &config.input) {
        found.max_length = own.max_length;
    }
    if found == *config {
        return Ok(());
    }
    let problem =
        "this arm is finished, with another model than the recipe asks for now: start anew";
    Err(Error::Model { path: folder.display().to_string(), problem: problem.to_owned() })
}

/// A teacher's raw answers [examples, outputs] to what is learnt from, out of a file for all that was given.
pub(crate) fn train_logits(split: &Split, path: &Path) -> Result<Vec<f32>, Error> {
    let outputs = split.train.outputs().len();
    Ok(split.of_train(logits_of((split.given(), outputs), path, "train")?, outputs))
}

/// A teacher's raw answers [rows, outputs] to a data set, from a file.
fn logits_of((rows, outputs): (usize, usize), path: &Path, name: &str) -> Result<Vec<f32>, Error> {
    let (found, columns, values) = data::read_logits(path, name)?;
    if (found, columns) == (rows, outputs) {
        return Ok(values);
    }
    let needed = format!("[{rows}, {outputs}]: one row for each example, in the data's order");
    Err(Error::Model {
        path: path.display().to_string(),
        problem: format!("`{name}` is [{found}, {columns}], the data needs {needed}"),
    })
}

/// A teacher that is a file of logits: of the training examples, and perhaps of the test examples.
pub(crate) fn given_logits(setup: &Setup, path: &Path) -> Result<MeasuredTeacher, Error> {
    let split = &setup.split;
    let teacher = Box::new(setup.answers(&train_logits(split, path)?)?);
    let width = setup.student.answer_len();
    let answers = match logits_of((split.test.len(), width), path, "test") {
        Err(Error::Data(DataError::MissingTensor { .. })) => None,
        answers => Some(answers?),
    };
    let report = match &answers {
        Some(answers) => {
            let (config, data) = (&setup.student, &split.test);
            let feed = &BatchEncoder::new(&config.input, data.examples())?;
            let measured = Measured { config, feed, data, answers, teacher: None, loss: None };
            Some(measured_report(&measured, Taken::default())?)
        }
        None => None,
    };
    Ok(MeasuredTeacher { teacher, report, answers, width })
}

/// Locks the run's folder: the recipe's `out`, or the first of runs/<name>, runs/<name>-2, … that is free. Two runs that
/// begin at once never get the same.
///
/// # Errors
/// [`Error::Run`] when another process works in the folder, [`Error::Model`] when a new run finds files in it.
pub(crate) fn claim(recipe: &Recipe, begin: Begin) -> Result<FolderLock, Error> {
    let default = Path::new("runs").join(&recipe.name);
    match (&recipe.out, begin) {
        (Some(out), Begin::New) => {
            let holds_files = || {
                Error::Model {
                path: out.display().to_string(),
                problem:
                    "holds files already: choose another folder (--out), --force to replace the run \
                          in it, or --resume to go on with one that was interrupted"
                        .to_owned(),
            }
            };
            if is_used(out) {
                FolderLock::check_free(out)?;
                return Err(holds_files());
            }
            let lock = FolderLock::acquire(out)?;
            // A run may have ended in it meanwhile.
            if is_used(out) { Err(holds_files()) } else { Ok(lock) }
        }
        (Some(out), _) => FolderLock::acquire(out),
        (None, Begin::Replace) => FolderLock::acquire(&default),
        (None, _) => {
            let others = (2..).map(|n| PathBuf::from(format!("{}-{n}", default.display())));
            let is_free = |path: &Path| if path.is_dir() { !is_used(path) } else { !path.exists() };
            for path in [default.clone()].into_iter().chain(others) {
                if is_free(&path)
                    && let Some(lock) = FolderLock::try_acquire(&path)?
                    && is_free(&path)
                    && lock.is_exclusive()
                {
                    return Ok(lock);
                }
            }
            unreachable!("some number is free")
        }
    }
}
