//! A model in its folder: trained and saved, then measured.

use std::borrow::Cow;
use std::path::Path;

use crate::data::Split;
use crate::device::Device;
use crate::error::Error;
use crate::files::{TEMPORARY, io_error, make_folder};
use crate::measure::arm::{Taken, measure, measure_guesses, test_logits};
use crate::models::{self, Feed, ModelConfig};
use crate::objective::{Teacher, frozen_store};
use crate::report::ArmReport;
use crate::run::log::Log;
use crate::sealed::Files;
use crate::store::{Storage, Store};
use crate::train::{Checkpoints, Lesson, train};

/// Enters the files of a model somewhere before they take their place.
pub(crate) type Enter<'a> = dyn FnMut(&Files) -> Result<(), Error> + 'a;

/// Saves a model in a folder. Its files are written beside their places and entered first, so that whoever finds them
/// knows whose they are and whether they are whole; the configuration comes last, as [`models::save`] has it.
fn save(
    folder: &Path,
    config: &ModelConfig,
    parameters: &[Vec<f32>],
    enter: &mut Enter<'_>,
) -> Result<(), Error> {
    make_folder(folder)?;
    let new = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder);
    let new = new.map_err(io_error(folder))?;
    // Nobody knows the place that they are written to.
    let known = |path: String| {
        let beside = new.path().display().to_string();
        path.replace(&beside, &folder.display().to_string())
    };
    models::save(new.path(), config, parameters).map_err(|error| match error {
        Error::Io { path, source } => Error::Io { path: known(path), source },
        error => error,
    })?;
    let files = Files::of(new.path())?;
    enter(&files)?;
    files.rename(new.path(), folder, models::CONFIG)
}

/// A model that is saved.
pub(crate) struct Saved<'a> {
    folder: &'a Path,
    config: &'a ModelConfig,
    parameters: Cow<'a, [Vec<f32>]>,
    /// The steps of its training; none of a model that was loaded.
    taken: Taken,
}

impl<'a> Saved<'a> {
    /// Trains a model, on from its last checkpoint if it has one, enters its files and saves it.
    pub fn train(
        device: &mut dyn Device,
        lesson: &Lesson<'a>,
        folder: &'a Path,
        checkpoints: &mut Checkpoints,
        log: &mut Log<'_>,
        enter: &mut Enter<'_>,
    ) -> Result<Self, Error> {
        let trained = train(device, lesson, checkpoints, log).map_err(|error| log.cause(error))?;
        checkpoints.check_folder()?;
        save(folder, lesson.config, &trained.parameters, enter)?;
        let taken = Taken { steps: Some(trained.steps), kept: trained.kept };
        let parameters = trained.parameters.into();
        Ok(Self { folder, config: lesson.config, parameters, taken })
    }

    /// Saves a model that was trained elsewhere, once its files are entered.
    pub fn copy(
        folder: &'a Path,
        config: &'a ModelConfig,
        parameters: &'a [Vec<f32>],
        enter: &mut Enter<'_>,
    ) -> Result<Self, Error> {
        save(folder, config, parameters, enter)?;
        Ok(Self { folder, config, parameters: parameters.into(), taken: Taken::default() })
    }

    /// Loads a model that was saved before an interruption.
    pub fn load(folder: &'a Path, config: &'a ModelConfig) -> Result<Self, Error> {
        let (_, parameters) = models::load(folder)?;
        Ok(Self { folder, config, parameters: parameters.into(), taken: Taken::default() })
    }

    /// Measures the model, unless it is `known` from before an interruption what that gave. A language model's guesses
    /// are compared with the `teacher`'s. Its parameters are stored as they will be used.
    pub fn measure(
        self,
        device: &mut dyn Device,
        storage: Storage,
        split: &Split,
        omitted: &[usize],
        known: Option<ArmReport>,
        teacher: Option<&Teacher>,
    ) -> Result<Measured, Error> {
        let Self { folder, config, parameters, taken } = self;
        let store = frozen_store(device, config, &parameters, storage)?;
        let test = Feed::new(&config.input, split.test.examples())?;
        if config.input.masks() {
            let model = (config, &store);
            let (report, agreement) =
                measure_guesses(device, &test, teacher, model, folder, taken)?;
            let (report, logits) = (known.unwrap_or(report), Vec::new());
            return Ok(Measured { store, report, logits, agreement });
        }
        let logits = test_logits(device, &test, config, &store)?;
        let report = match known {
            Some(report) => report,
            None => measure(device, split, omitted, (config, &store), &logits, folder, taken)?,
        };
        Ok(Measured { store, report, logits, agreement: None })
    }
}

/// A saved model on the device, what was measured of it, and its raw logits of the test set;
/// none of a language model.
pub(crate) struct Measured {
    pub store: Store,
    pub report: ArmReport,
    pub logits: Vec<f32>,
    /// Share of a language model's guesses that are its teacher's.
    pub agreement: Option<f64>,
}

/// A teacher, what was measured of it, and its raw logits of the test set.
pub(crate) type MeasuredTeacher = (Teacher, Option<ArmReport>, Option<Vec<f32>>);

impl Measured {
    /// As the teacher of students.
    pub fn into_teacher(self, config: &ModelConfig) -> MeasuredTeacher {
        let (config, store) = (Box::new(config.clone()), Box::new(self.store));
        let logits = (!self.logits.is_empty()).then_some(self.logits);
        (Teacher::Model { config, store }, Some(self.report), logits)
    }
}
