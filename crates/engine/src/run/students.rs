//! What a run finds out of its students before their training: the layers that they take over, and what they are worth then.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cut::Found;
use super::{Taken, Test, Work};
use crate::device::Device;
use crate::error::Error;
use crate::files::write_atomically;
use crate::measure::influence::INFLUENCE;
use crate::measure::ranking::RANKING;
use crate::objective::{TeacherAnswers, frozen_store};
use crate::results::{Arm, ArmReport};
use crate::store::Storage;
use crate::task::{Measuring, TaskRef};

impl Work<'_> {
    /// What has to be found out before the students can be cut out of another model. What an interrupted run has of it is
    /// taken as it is.
    pub(super) fn found(&mut self, device: &mut dyn Device) -> Result<Found, Error> {
        let Self { recipe, setup, folder, log, .. } = self;
        let known = Found {
            influence: read(&folder.join(INFLUENCE)),
            ranking: read(&folder.join(RANKING)),
        };
        let teacher = folder.join(Arm::Teacher.folder());
        let told = &mut |note: &str| log.note(note);
        let found = Found::of(device, (recipe, setup), &teacher, &known, told)?;
        write(&folder.join(INFLUENCE), &found.influence, &known.influence)?;
        write(&folder.join(RANKING), &found.ranking, &known.ranking)?;
        Ok(found)
    }

    /// What a student that is a language model is worth before its training, if it starts from another model's parameters.
    pub(super) fn before(
        &self,
        device: &mut dyn Device,
        teacher: &dyn TeacherAnswers,
    ) -> Result<Option<Box<ArmReport>>, Error> {
        let Self { setup, folder, .. } = self;
        let config = &setup.student;
        if TaskRef::of_model(config).measuring() != Measuring::Loss {
            return Ok(None);
        }
        let start = setup.start(Arm::Distilled, &folder.join(Arm::Teacher.folder()))?;
        let values: Option<Vec<Vec<f32>>> = start.iter().cloned().collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(None) };
        let store = frozen_store(device, config, &values, Storage::F32)?;
        let test = Test { teacher: Some(teacher), ..setup.test(&[], None) };
        let folder = folder.join(Arm::Distilled.folder());
        let measured = test.measure(device, (config, &store), &folder, Taken::default())?;
        store.free(device);
        Ok(Some(Box::new(ArmReport { bytes: None, ..measured.report })))
    }
}

/// What an interrupted run has left in a file, if that can be read.
fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Writes what was found out, if that is news.
fn write<T: Serialize + PartialEq>(
    file: &Path,
    found: &Option<T>,
    known: &Option<T>,
) -> Result<(), Error> {
    match found {
        Some(news) if found != known => {
            let json = serde_json::to_string(news).expect("numbers are plain data");
            write_atomically(file, format!("{json}\n").as_bytes())
        }
        _ => Ok(()),
    }
}
