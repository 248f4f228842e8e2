//! The folder of one model of a sweep: what it was trained with, its files, and what came of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::results::{self, ArmReport};
use crate::run::settings::Settings;
use crate::run::{log, tensorboard};
use crate::sealed::{self, Files};
use crate::train::Checkpoints;

/// Name of the file with what is known of the model.
const NAME: &str = "result.json";

/// What is known of a model in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// What it was trained with.
    settings: Settings,
    /// The model's files, from before they take their place.
    files: Files,
    /// What came of it; absent until it is finished.
    outcome: Option<Outcome>,
}

/// What came of one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What was measured.
    #[serde(flatten)]
    pub result: Learned,
    /// Time of its training, in seconds.
    pub seconds: f64,
}

/// What was measured of a model, or why there is nothing to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Learned {
    /// It was trained.
    Measured {
        /// What was measured.
        report: Box<ArmReport>,
        /// Share of the test examples on which it gives the teacher's answer.
        agreement: Option<f64>,
    },
    /// It was not.
    Failed {
        /// Why.
        failed: String,
    },
}

impl Place {
    /// A model that is to be trained with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, files: Files::default(), outcome: None }
    }

    /// What a finished model that was trained with these settings came to. Otherwise nothing, with a note why a model
    /// that is there cannot be used.
    pub fn outcome_of(place: &Path, settings: &Settings) -> (Option<Outcome>, Option<String>) {
        let path = place.join(NAME);
        let again = |why: String| (None, Some(format!("{why}: this model is made again")));
        if !path.exists() {
            return (None, None);
        }
        let known: Self = match sealed::read(&path) {
            Ok(known) => known,
            Err(reason) => return again(format!("{} is damaged ({reason})", path.display())),
        };
        let Some(outcome) = known.outcome else { return (None, None) };
        let changes = known.settings.changes(settings);
        if !changes.is_empty() {
            let changes = changes.join("; ");
            return again(format!("{} was trained otherwise ({changes})", place.display()));
        }
        match known.files.damaged(place) {
            Some(path) => again(format!("{} is damaged or gone", path.display())),
            None => (Some(outcome), None),
        }
    }

    /// Whether nothing is known to have come of it yet.
    pub fn is_unfinished(place: &Path) -> bool {
        sealed::read::<Self>(&place.join(NAME)).map_or(true, |known| known.outcome.is_none())
    }

    /// Its files are about to take their place.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn saving(&mut self, place: &Path, files: &Files) -> Result<(), Error> {
        self.files = files.clone();
        sealed::write(&place.join(NAME), self)
    }

    /// The model is finished.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn finish(mut self, place: &Path, outcome: &Outcome) -> Result<(), Error> {
        self.outcome = Some(outcome.clone());
        sealed::write(&place.join(NAME), &self)
    }

    /// The files of the model in a folder, as far as they are known.
    pub fn files_of(place: &Path) -> Files {
        sealed::read::<Self>(&place.join(NAME)).map_or(Files::default(), |known| known.files)
    }

    /// Deletes all that a sweep wrote into the folder, and the folder unless there is something else in it.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn remove(place: &Path) -> Result<(), Error> {
        crate::files::remove_temporary(place)?;
        Checkpoints::new(place, 0.0).remove()?;
        tensorboard::remove(place)?;
        for log in [log::NAME, results::WRITTEN] {
            sealed::remove_file(&place.join(log))?;
        }
        let files = Self::files_of(place);
        sealed::remove_file(&place.join(NAME))?;
        files.remove(place)
    }
}
