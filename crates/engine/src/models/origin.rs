//! Where a model comes from: a folder, or the hub.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::hub::{HubModel, HubSettings, Progress, SCHEME};
use crate::error::Error;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder with `config.json` and `model.safetensors`.
    Folder(PathBuf),
    /// The Hugging Face hub.
    Hub(HubModel),
}

impl Origin {
    /// What a path means: what begins with `hf:` is a model of the hub.
    ///
    /// # Errors
    /// [`Error::Model`] when that is not `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.
    pub fn of(path: &Path) -> Result<Self, Error> {
        match path.to_str() {
            Some(text) if text.starts_with(SCHEME) => text.parse().map(Self::Hub),
            _ => Ok(Self::Folder(path.to_owned())),
        }
    }

    /// Downloads what is needed of a model of the hub, and pins its revision to the commit.
    ///
    /// # Errors
    /// As [`HubModel::fetch`].
    pub fn fetch(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        if let Self::Hub(model) = self {
            model.revision = Some(model.fetch(&HubSettings::from_env()?, progress)?.commit);
        }
        Ok(())
    }

    /// The folder of its files: of a model of the hub, the one in the cache.
    ///
    /// # Errors
    /// [`Error::Model`] when it is a model of the hub that was not fetched.
    pub fn folder(&self) -> Result<PathBuf, Error> {
        match self {
            Self::Folder(folder) => Ok(folder.clone()),
            Self::Hub(model) => {
                let folder = model.folder(&HubSettings::from_env()?);
                folder.ok_or_else(|| model.bad("it was not fetched"))
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Hub(model) => model.fmt(f),
        }
    }
}

/// As it is written in a recipe.
impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Folder(folder) => folder.serialize(serializer),
            Self::Hub(model) => serializer.collect_str(model),
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&PathBuf::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
