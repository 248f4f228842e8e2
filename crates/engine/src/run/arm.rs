//! A model in its folder: trained and saved, then measured.

use std::path::Path;

use crate::data::disk::DiskError;
use crate::device::Device;
use crate::error::Error;
use crate::files::{TEMPORARY, io_error, make_folder};
use crate::measure::arm::{Taken, Test, TestResult};
use crate::measure::stored::compared;
use crate::models::{self, ModelConfig};
use crate::objective::{Parameters, RawAnswers, TeacherAnswers, TeacherModel};
use crate::results::ArmReport;
use crate::run::log::Log;
use crate::sealed::Files;
use crate::store::{Storage, Store, Stored};
use crate::train::{Checkpoints, TrainingJob, train};

/// Enters the files of a model somewhere before they take their place.
pub(crate) type Enter<'a> = dyn FnMut(&Files) -> Result<(), Error> + 'a;

/// Saves a model in a folder. Its files are written beside their places and entered first, so that whoever finds them
/// knows whose they are and whether they are whole; the configuration comes last, as [`models::save`] has it.
fn save(
    folder: &Path,
    config: &ModelConfig,
    parameters: &Parameters<'_>,
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
    let saved = match parameters {
        Parameters::Values(values) => models::save(new.path(), config, values),
        Parameters::Files(source) => models::save_linked(new.path(), config, source),
    };
    saved.map_err(|error| match error {
        Error::Io(error) => DiskError { path: known(error.path), ..error }.into(),
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
    parameters: Parameters<'a>,
    /// The steps of its training; none of a model that was loaded.
    taken: Taken,
}

impl<'a> Saved<'a> {
    /// Trains a model, on from its last checkpoint if it has one, enters its files and saves it.
    pub fn train(
        device: &mut dyn Device,
        job: &TrainingJob<'a>,
        folder: &'a Path,
        checkpoints: &mut Checkpoints,
        log: &mut Log<'_>,
        enter: &mut Enter<'_>,
    ) -> Result<Self, Error> {
        let trained = train(device, job, checkpoints, log).map_err(|error| log.cause(error))?;
        checkpoints.check_folder()?;
        let parameters = Parameters::Values(trained.parameters.into());
        save(folder, job.config, &parameters, enter)?;
        let taken = Taken { steps: Some(trained.steps), kept: trained.kept };
        Ok(Self { folder, config: job.config, parameters, taken })
    }

    /// Saves a model that was trained elsewhere, once its files are entered.
    pub fn copy(
        folder: &'a Path,
        config: &'a ModelConfig,
        parameters: Parameters<'a>,
        enter: &mut Enter<'_>,
    ) -> Result<Self, Error> {
        save(folder, config, &parameters, enter)?;
        Ok(Self { folder, config, parameters, taken: Taken::default() })
    }

    /// Loads a model that was saved before an interruption.
    pub fn load(folder: &'a Path, config: &'a ModelConfig) -> Result<Self, Error> {
        let parameters = models::open(folder)?.1.into();
        Ok(Self { folder, config, parameters, taken: Taken::default() })
    }

    /// Measures the model, or takes `known`, what that gave before an interruption. Its parameters are stored as they
    /// will be used.
    pub fn measure(
        self,
        device: &mut dyn Device,
        stored: Stored<'_>,
        test: &Test<'_>,
        known: Option<ArmReport>,
    ) -> Result<TestedModel, Error> {
        let Self { folder, config, parameters, taken } = self;
        let store = parameters.store(device, config, stored)?;
        let TestResult { answers, mut report, agreement } =
            test.measure(device, (config, &store), folder, taken)?;
        if known.is_none() {
            let whole = |device: &mut dyn Device| parameters.store(device, config, Storage::F32);
            let model = (config, &store);
            report.stored = compared(device, model, &whole, test.split)?.map(Box::new);
        }
        let report = known.unwrap_or(report);
        Ok(TestedModel { store, report, answers, agreement })
    }
}

/// A saved model on the device, what was measured of it, and its raw answers to the test set; none where they are too
/// many to keep.
pub(crate) struct TestedModel {
    pub store: Store,
    pub report: ArmReport,
    pub answers: Vec<f32>,
    /// Share of its answers that are its teacher's, where these are made beside them.
    pub agreement: Option<f64>,
}

/// A teacher, what was measured of it, and its raw answers to the test set.
#[derive(Debug)]
pub(crate) struct MeasuredTeacher {
    pub teacher: Box<dyn TeacherAnswers>,
    pub report: Option<ArmReport>,
    pub answers: Option<Vec<f32>>,
    /// Numbers of an answer.
    pub width: usize,
}

impl MeasuredTeacher {
    /// Its answers to the test set, and how many numbers each has.
    pub fn test_answers(&self) -> Option<RawAnswers<'_>> {
        self.answers.as_deref().map(|answers| (answers, self.width))
    }
}

impl TestedModel {
    /// As the teacher of students.
    pub fn into_teacher(self, config: &ModelConfig) -> MeasuredTeacher {
        let width = config.answer_len();
        let answers = (!self.answers.is_empty()).then_some(self.answers);
        let teacher = Box::new(TeacherModel { config: config.clone(), store: self.store });
        MeasuredTeacher { teacher, report: Some(self.report), answers, width }
    }
}
