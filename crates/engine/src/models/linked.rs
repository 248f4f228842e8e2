//! Folders of models whose weights lie elsewhere: a run does not copy the teacher that it is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file_names::bad;
use crate::error::Error;
use crate::sealed::{self, Files};

/// The file that says where.
pub const LINK: &str = "weights.json";

/// Where a folder's weights lie, and what they were when that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The folder, or the GGUF file.
    pub from: PathBuf,
    /// The files of tensors there.
    pub files: Files,
    /// Rows that are chosen of parameters, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, Vec<u32>>,
}

impl Link {
    /// Whether a folder says where its weights lie.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(LINK).is_file()
    }

    /// Reads what a folder says.
    ///
    /// # Errors
    /// [`Error::Model`] when it is damaged.
    pub fn read(path: &Path) -> Result<Self, Error> {
        sealed::read(path).map_err(|problem| bad(path, format!("it is damaged: {problem}")))
    }

    /// Writes what a folder says.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        sealed::write(&folder.join(LINK), self)
    }

    /// Refuses weights that are not there any more as they were.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file.
    pub fn check(&self, path: &Path) -> Result<(), Error> {
        match self.files.damaged(&self.from) {
            None if !Self::is_in(&self.from) => Ok(()),
            None => Err(bad(path, "it names a folder that names another")),
            Some(file) => Err(bad(
                path,
                format!(
                    "this model's weights lie in {}, which is gone or another one since: put it back",
                    file.display()
                ),
            )),
        }
    }

    /// Bytes of the files of tensors.
    pub fn bytes(&self) -> u64 {
        self.files.bytes()
    }
}
