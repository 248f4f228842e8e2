//! The three models of a run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One of the three models of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The strong model.
    Teacher,
    /// The student alone, without a teacher: `control` in files.
    Control,
    /// The student distilled, with the teacher's softened answers.
    Distilled,
}

impl Arm {
    /// All three, in the order in which they are trained.
    pub const ALL: [Self; 3] = [Self::Teacher, Self::Control, Self::Distilled];

    /// Name in files: reports, metrics and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Control => "control",
            Self::Distilled => "distilled",
        }
    }

    /// Name for people: on screens, on pages and in TensorBoard.
    pub fn title(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Control => "student alone",
            Self::Distilled => "student distilled",
        }
    }

    /// Which model of a run lies in this folder, by the folder's name, and the run's folder.
    pub fn of_model(folder: &Path) -> Option<(Self, PathBuf)> {
        let folder = std::path::absolute(folder).ok()?;
        let (name, run) = (folder.file_name()?.to_str()?, folder.parent()?);
        let arm = Self::ALL.into_iter().find(|arm| arm.folder() == name)?;
        Some((arm, run.to_owned()))
    }

    /// The folder its model is saved in.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Distilled => "student",
            other => other.name(),
        }
    }
}
