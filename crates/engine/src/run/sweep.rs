//! A sweep: one teacher, and a student for every combination of some settings and every seed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::cut::{CUTS, Found, Sought};
use crate::data::LabelKind;
use crate::device::Device;
use crate::error::Error;
use crate::files::{make_folder, remove_temporary, write_atomically};
use crate::forecast::main_memory;
use crate::measure::Evaluator;
use crate::measure::arm::{Test, speeds};
use crate::models::BatchEncoder;
use crate::models::decoder::Ranking;
use crate::objective::TeacherAnswers;
use crate::recipe::{self, Recipe};
use crate::results::{Arm, FailedRun, SWEEP, Setting, SweepPoint, SweepReport, SweepRun};
use crate::run::answer_file::check_answers;
use crate::run::arm::{Enter, MeasuredTeacher, Saved, TestedModel};
use crate::run::cached;
use crate::run::grid::{Axis, GRID, Grid};
use crate::run::journal::Journal;
use crate::run::log::Log;
use crate::run::place::{Learned, Outcome, Place};
use crate::run::settings::Settings;
use crate::run::{
    Begin, Event, Observer, RECIPE, Setup, claim, given_logits, majority, replace, train_logits,
};
use crate::sealed::{Files, remove_file};
use crate::train::{Checkpoints, TrainingJob};

/// A finished sweep.
#[derive(Debug)]
pub struct Sweep {
    /// Where its results lie.
    pub folder: PathBuf,
    /// What it measured.
    pub report: SweepReport,
}

/// One student to train: its recipe, and where it goes.
struct Point {
    recipe: Recipe,
    folder: PathBuf,
}

/// Refuses what would need a teacher for each student.
fn check(recipe: &Recipe, grid: &Grid) -> Result<(), Error> {
    let of_tokens = |axis: &Axis| axis.key.starts_with("student.model.vocabulary");
    if recipe.task.labels() == LabelKind::Documents && grid.axes.iter().any(of_tokens) {
        return Err(Error::Unsupported {
            what: "a sweep has one teacher, which guesses its students' tokens".to_owned(),
            instead: "set `student.model.vocabulary` in the recipe, and compare runs by `report`"
                .to_owned(),
        });
    }
    Ok(())
}

/// Runs a sweep: the teacher is trained or run once, and its answers are used again for every student. The
/// student alone is trained once for all that differ in the distillation only. A student whose training diverges
/// is entered as failed.
///
/// # Errors
/// When a combination is no recipe or changes data or teacher, and as [`crate::run::run`].
pub fn sweep(
    recipe: &Recipe,
    grid: &Grid,
    device: &mut dyn Device,
    begin: Begin,
    observer: &mut dyn Observer,
) -> Result<Sweep, Error> {
    if !recipe.task.ranks_students() {
        return Err(Error::Unsupported {
            what: format!(
                "a sweep has no measure that ranks students of `task = \"{}\"`",
                recipe.task.name()
            ),
            instead: "`run` each recipe, and compare the runs with `report`".to_owned(),
        });
    }
    recipe.precision.check(&device.caps(), &device.info().name)?;
    let named = Recipe { name: format!("{}-sweep", recipe.name), ..recipe.clone() };
    let lock = claim(&named, begin)?;
    let folder = lock.folder().to_owned();
    let mut notes: Vec<String> = lock.note().into_iter().collect();
    let settings = Settings::of(recipe)?;
    let begun = match begin {
        Begin::Resume { accept_changes } => {
            let (mut journal, damaged) = Journal::resume(&folder, true)?;
            let changed = journal.go_on(settings.clone(), Some(grid), accept_changes, &[])?;
            notes.extend(damaged);
            Some((journal, changed, accept_changes))
        }
        _ => None,
    };
    let replaced = match begin {
        Begin::Replace => replace::check(&folder, None)?,
        _ => None,
    };
    let resolved = recipe.to_toml()?;
    let combinations = grid.combinations();
    let points = points(recipe, &resolved, grid, &combinations, &folder, observer)?;
    check(recipe, grid)?;
    let setup = Setup::read(recipe, None)?;
    main_memory::check(recipe, &setup, device.info())?;
    if let recipe::Teacher::Logits { logits } = &recipe.teacher {
        notes.extend(check_answers(logits, &setup.split)?);
    }
    notes.extend(setup.notes()?);
    let opened = Opened { recipe, grid, setup: &setup, folder: &folder };
    let journal = opened.journal(begun, replaced, settings, device, &mut notes)?;
    observer.event(&Event::Opened { folder: &folder });
    let warnings = journal.warnings.clone();
    notes.iter().chain(&warnings).for_each(|note| observer.event(&Event::Note(note)));
    let mut work = Work { device, observer, folder: &folder, seconds: 0.0 };

    let teacher = work.teacher(recipe, &setup)?;
    let runs = work.students(&points, (grid, &combinations), &setup, &teacher)?;
    let mut runs = runs.into_iter();
    let points = combinations.into_iter().map(|settings| {
        let (mut measured, mut failed) = (Vec::new(), Vec::new());
        for run in runs.by_ref().take(grid.seeds as usize) {
            match run {
                Ok(run) => measured.push(run),
                Err(run) => failed.push(run),
            }
        }
        SweepPoint { settings, runs: measured, failed }
    });
    let info = work.device.info();
    let axes = grid.axes.iter().map(|axis| (axis.key.clone(), axis.values.clone())).collect();
    let mut report = SweepReport {
        name: recipe.name.clone(),
        task: recipe.task,
        axes,
        seeds: grid.seeds,
        teacher: teacher.teacher.report,
        majority: majority(&setup)?,
        points: points.collect(),
        device: info.name.clone(),
        backend: format!("{} {}", info.backend, info.driver).trim_end().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seconds: work.seconds,
        warnings,
    };
    report.judge();
    write_json(&folder.join(SWEEP), &report)?;
    journal.end()?;
    Ok(Sweep { folder, report })
}

/// A sweep whose folder is open.
struct Opened<'a> {
    recipe: &'a Recipe,
    grid: &'a Grid,
    setup: &'a Setup,
    folder: &'a Path,
}

/// A journal that is gone on with, whether the recipe changed, and whether that is accepted.
type Begun = (Journal, bool, bool);

impl Opened<'_> {
    /// Begins the sweep's journal, or goes on with it, and writes the recipe as it was resolved.
    fn journal(
        &self,
        begun: Option<Begun>,
        replaced: Option<Journal>,
        settings: Settings,
        device: &mut dyn Device,
        notes: &mut Vec<String>,
    ) -> Result<Journal, Error> {
        let Self { recipe, grid, setup, folder } = *self;
        let resolved = recipe.to_toml()?;
        Ok(match begun {
            Some((mut journal, changed, accept)) => {
                let other = journal.go_on_with(&setup.split, accept, &[])?;
                if changed || other {
                    replace::forget_unfinished(folder)?;
                    remove_file(&folder.join(CUTS))?;
                }
                notes.extend(journal.go_on_on(device.info()));
                device.choose(journal.choices.clone());
                write_atomically(&folder.join(RECIPE), resolved.as_bytes())?;
                journal.write()?;
                journal
            }
            None => {
                if let Some(replaced) = replaced {
                    replace::clear(folder, &replaced, None)?;
                }
                remove_temporary(folder)?;
                let journal = Journal::begin(folder, settings, Some(grid), &setup.split, device)?;
                write_atomically(&folder.join(RECIPE), resolved.as_bytes())?;
                write_json(&folder.join(GRID), grid)?;
                journal
            }
        })
    }
}

/// The recipe of every student.
fn points(
    base: &Recipe,
    resolved: &str,
    grid: &Grid,
    combinations: &[Vec<Setting>],
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<Vec<Point>, Error> {
    let mut points = Vec::new();
    for settings in combinations {
        for offset in 0..grid.seeds {
            let set = |Setting { key, value }: &Setting| format!("{key}={value}");
            let mut sets: Vec<String> = settings.iter().map(set).collect();
            sets.push(format!("seed={}", base.seed.wrapping_add(offset)));
            let mut recipe = Recipe::parse_with(resolved, "recipe.toml", &sets)?;
            recipe.fetch(&mut |progress| observer.event(&Event::Download(progress)))?;
            let table = |key: &str| key.split('.').next().unwrap_or_default().trim().to_owned();
            let varied = |key: &str| ["student", "distil", "train"].contains(&&*table(key));
            if let Some(Setting { key, .. }) = settings.iter().find(|one| !varied(&one.key)) {
                return Err(Error::Run {
                    path: key.clone(),
                    problem:
                        "a sweep has one teacher and one data set: vary only keys of [student], \
                         [distil] and [train]"
                            .to_owned(),
                });
            }
            let folder = folder.join("students").join(format!("{:03}", points.len() + 1));
            points.push(Point { recipe, folder });
        }
    }
    Ok(points)
}

/// What a control's training depends on.
fn control_key(recipe: &Recipe) -> String {
    let Recipe { seed, student, distil, train, .. } = recipe;
    let parts = (seed, student, train, &distil.omit_classes, distil.train_limit);
    serde_json::to_string(&parts).expect("a recipe is plain data")
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(value).expect("results are plain data");
    write_atomically(path, format!("{json}\n").as_bytes())
}

/// A teacher with all its answers.
struct Answers {
    /// What it is. A model answers within the steps of students that see shifted images, new masks or texts without
    /// labels, to which its answers must be made anew, or learn from its inside.
    teacher: MeasuredTeacher,
    /// Raw answers to all training examples; none where they are too many to keep.
    train: Vec<f32>,
}

/// What every training works with.
struct Work<'a> {
    device: &'a mut dyn Device,
    observer: &'a mut dyn Observer,
    folder: &'a Path,
    seconds: f64,
}

impl Work<'_> {
    fn note(&mut self, text: &str) {
        self.observer.event(&Event::Note(text));
    }

    /// What came of a model that was finished with these settings, as far as it can be used.
    fn outcome_of(&mut self, place: &Path, settings: &Settings) -> Option<Outcome> {
        let (outcome, note) = Place::outcome_of(place, settings);
        note.into_iter().for_each(|note| self.note(&note));
        outcome
    }

    /// Trains or loads the teacher, and asks it everything once.
    fn teacher(&mut self, recipe: &Recipe, setup: &Setup) -> Result<Answers, Error> {
        if let recipe::Teacher::Logits { logits } = &recipe.teacher {
            let teacher = given_logits(setup, logits)?;
            let train = train_logits(&setup.split, logits)?;
            return Ok(Answers { teacher, train });
        }
        let place = self.folder.join(Arm::Teacher.folder());
        let start = setup.start(Arm::Teacher, &place)?;
        let job = setup.job(recipe, Arm::Teacher, &start, None);
        let settings = Settings::of(recipe)?.of_arm(Arm::Teacher);
        let known = self.outcome_of(&place, &settings);
        let mut entry = Place::new(settings);
        let mut enter = |files: &Files| entry.saving(&place, files);
        let (saved, seconds) = match (&known, setup.loaded(Arm::Teacher)) {
            (Some(known), _) => (Saved::load(&place, job.config)?, known.seconds),
            (None, Some(parameters)) => {
                (Saved::copy(&place, job.config, parameters, &mut enter)?, 0.0)
            }
            (None, None) => self.train(recipe, &job, &place, &mut enter)?,
        };
        self.seconds += seconds;
        let finished = known.is_some();
        let known = known.and_then(|known| match known.result {
            Learned::Measured { report, .. } => Some(*report),
            Learned::Failed { .. } => None,
        });
        let stored = setup.stored(Arm::Teacher);
        let mut measured = saved.measure(self.device, stored, &setup.test(&[], None), known)?;
        if !finished {
            let timed = [(job.config, &measured.store)];
            let speeds = speeds(self.device, &timed, setup.split.test.examples(), seconds)?;
            measured.report.set_speed(&speeds[0]);
            let report = Box::new(measured.report.clone());
            let result = Learned::Measured { report, agreement: None };
            entry.finish(&place, &Outcome { result, seconds })?;
        }
        let mut train = Vec::new();
        if recipe.task.answers_once() && !setup.is_cached() {
            let mut evaluator = Evaluator::new(job.config, &measured.store);
            let examples = BatchEncoder::new(&job.config.input, setup.split.train.examples())?;
            train = evaluator.logits(self.device, &examples, &mut |_| ())?;
            evaluator.close(self.device);
        }
        let teacher = measured.into_teacher(job.config);
        if let Some(note) = cached::check(self.device, setup, &*teacher.teacher)? {
            self.note(&note);
        }
        Ok(Answers { teacher, train })
    }

    /// Trains and measures every student, and the student alone once for all that differ in the distillation only.
    fn students(
        &mut self,
        points: &[Point],
        (grid, combinations): (&Grid, &[Vec<Setting>]),
        setup: &Setup,
        teacher: &Answers,
    ) -> Result<Vec<Result<SweepRun, FailedRun>>, Error> {
        let mut controls: BTreeMap<String, Outcome> = BTreeMap::new();
        let mut found = self.found_before();
        let mut runs = Vec::new();
        for (number, Point { recipe, folder: place }) in points.iter().enumerate() {
            let (of_point, model) = self.cut(recipe, setup, &mut found)?;
            let control_key = control_key(recipe);
            let control = match controls.get(&control_key) {
                Some(known) => known.clone(),
                None => {
                    let place =
                        self.folder.join("controls").join(format!("{:03}", controls.len() + 1));
                    self.note(&format!("Student alone {}", controls.len() + 1));
                    let outcome = self.student(Arm::Control, recipe, &of_point, &place, None)?;
                    controls.insert(control_key, outcome.clone());
                    outcome
                }
            };
            let place_name = place.strip_prefix(self.folder).unwrap_or(place).display().to_string();
            let settings = &combinations[number / grid.seeds as usize];
            let shown: Vec<String> =
                settings.iter().map(|Setting { key, value }| format!("{key}={value}")).collect();
            self.note(&format!(
                "Student {} of {}: {} seed={}",
                number + 1,
                points.len(),
                shown.join(" "),
                recipe.seed
            ));
            let outcome = self.student(Arm::Distilled, recipe, &of_point, place, Some(teacher))?;
            let seed = recipe.seed;
            let failed = |reason| Err(FailedRun { seed, folder: place_name.clone(), reason });
            runs.push(match (outcome.result, control.result) {
                (
                    Learned::Measured { report: distilled, agreement },
                    Learned::Measured { report: control, .. },
                ) => Ok(SweepRun {
                    seed,
                    folder: place_name,
                    model: serde_json::to_string(&model).expect("a model is plain data"),
                    agreement,
                    distilled: *distilled,
                    control: *control,
                }),
                // Without a student alone there is nothing to compare with.
                (Learned::Failed { failed: reason }, _)
                | (_, Learned::Failed { failed: reason }) => failed(reason),
            });
        }
        Ok(runs)
    }

    /// What was found out of what students are cut out of when this sweep was interrupted, by what that hangs on.
    fn found_before(&self) -> BTreeMap<String, Found> {
        let known = fs::read(self.folder.join(CUTS)).ok();
        known.and_then(|known| serde_json::from_slice(&known).ok()).unwrap_or_default()
    }

    /// What a point's students are, and their model. What has to be found out before that is found out once for all points
    /// that are cut out of the same model by the same data.
    fn cut(
        &mut self,
        recipe: &Recipe,
        setup: &Setup,
        found: &mut BTreeMap<String, Found>,
    ) -> Result<(Setup, recipe::Model), Error> {
        let whole = setup.for_students(recipe, &Ranking::default())?;
        let teacher = self.folder.join(Arm::Teacher.folder());
        let known = found.entry(Sought::key(recipe)).or_default();
        let told = &mut |note: &str| self.observer.event(&Event::Note(note));
        let own = Found::of(self.device, (recipe, &whole), &teacher, known, told)?;
        let of_point = own.students(recipe, setup)?.unwrap_or(whole);
        let model = own.model(recipe);
        let more = known.clone().with(own);
        if more != *known {
            *known = more;
            write_json(&self.folder.join(CUTS), found)?;
        }
        Ok((of_point, model))
    }

    /// Trains and measures a student, alone or distilled, unless it is finished. That its training
    /// diverges is an outcome too.
    fn student(
        &mut self,
        arm: Arm,
        recipe: &Recipe,
        setup: &Setup,
        place: &Path,
        answers: Option<&Answers>,
    ) -> Result<Outcome, Error> {
        let settings = Settings::of(recipe)?.of_arm(arm);
        if let Some(outcome) = self.outcome_of(place, &settings) {
            self.seconds += outcome.seconds;
            return Ok(outcome);
        }
        let given;
        // All that the teacher has no answers to beforehand.
        let asks = !recipe.task.answers_once()
            || setup.split.unlabelled.is_some()
            || recipe.train.shift > 0
            || !setup.objective.hidden.is_empty();
        let kept = answers.and_then(|answers| setup.cached(&*answers.teacher.teacher));
        let teacher: Option<&dyn TeacherAnswers> = match answers {
            None => None,
            Some(_) if kept.is_some() => kept.as_ref().map(|kept| kept as &dyn TeacherAnswers),
            Some(Answers { teacher, .. }) if asks && teacher.teacher.model().is_some() => {
                Some(&*teacher.teacher)
            }
            Some(answers) => {
                given = setup.answers(&answers.train)?;
                Some(&given)
            }
        };
        let test = answers.and_then(|answers| answers.teacher.test_answers());
        let first = setup.start(arm, &self.folder.join(Arm::Teacher.folder()))?;
        let job = setup.job(recipe, arm, &first, teacher.map(|teacher| (teacher, test)));
        let start = Instant::now();
        let mut entry = Place::new(settings);
        let mut enter = |files: &Files| entry.saving(place, files);
        let (result, seconds) = match self.train(recipe, &job, place, &mut enter) {
            Ok((saved, seconds)) => {
                let Setup { split, omitted, .. } = setup;
                let on = Test { teacher, answers: test, ..setup.test(omitted, None) };
                let TestedModel { store, mut report, answers, agreement: beside } =
                    saved.measure(self.device, setup.stored(arm), &on, None)?;
                let timed = [(job.config, &store)];
                let speeds = speeds(self.device, &timed, split.test.examples(), seconds)?;
                report.set_speed(&speeds[0]);
                store.free(self.device);
                let agreement = setup.agreement(&answers, test)?.or(beside);
                (Learned::Measured { report: Box::new(report), agreement }, seconds)
            }
            // Settings that lead nowhere are a result; the other students are not to blame.
            Err(Error::NotFinite(failed)) => {
                self.note(&format!("Failed: {failed}"));
                Checkpoints::new(place, 0.0).remove()?;
                (Learned::Failed { failed }, start.elapsed().as_secs_f64())
            }
            Err(error) => return Err(error),
        };
        self.seconds += seconds;
        let outcome = Outcome { result, seconds };
        entry.finish(place, &outcome)?;
        Ok(outcome)
    }

    /// Trains a model in a folder of its own: the model, and the time that took.
    fn train<'m>(
        &mut self,
        recipe: &Recipe,
        job: &TrainingJob<'m>,
        place: &'m Path,
        enter: &mut Enter<'_>,
    ) -> Result<(Saved<'m>, f64), Error> {
        if !self.folder.is_dir() {
            let problem = "it is gone since this began, so nothing more can be saved".to_owned();
            return Err(Error::Run { path: self.folder.display().to_string(), problem });
        }
        remove_temporary(place)?;
        make_folder(place)?;
        let mut checkpoints = Checkpoints::new(place, recipe.checkpoint_seconds);
        for note in checkpoints.set_damaged_aside()? {
            self.note(&note);
        }
        let steps = checkpoints.steps()?;
        let kept = |arm: Arm, step: u32| steps.get(&arm).is_some_and(|saved| step <= *saved);
        let mut log = Log::open(place, recipe.tensorboard, kept, self.observer)?;
        let saved = Saved::train(self.device, job, place, &mut checkpoints, &mut log, enter)?;
        let seconds = log.seconds();
        log.finish()?;
        checkpoints.remove()?;
        Ok((saved, seconds))
    }
}
