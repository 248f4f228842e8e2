//! Models of the Hugging Face hub: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, kept in the cache of Hugging
//! Face's own tools.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod fetch;
mod settings;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use settings::HubSettings;

use crate::error::Error;

/// What the name of a model on the hub begins with.
pub const SCHEME: &str = "hf:";

/// A model on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// `OWNER/NAME`.
    pub id: String,
    /// A branch, tag or commit; `None` for the main branch.
    pub revision: Option<String>,
}

/// A model's files at one commit, in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that holds them.
    pub folder: PathBuf,
    /// The commit's hash, which pins what a branch or tag was at the time.
    pub commit: String,
}

/// How far the download of a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The model.
    pub model: &'a HubModel,
    /// The file.
    pub file: &'a str,
    /// Bytes that are there.
    pub bytes: u64,
    /// Its size in bytes.
    pub total: u64,
}

impl FromStr for HubModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let model = text.strip_prefix(SCHEME).and_then(|rest| {
            let (id, revision) = match rest.split_once('@') {
                Some((id, revision)) => (id, Some(revision)),
                None => (rest, None),
            };
            let (owner, name) = id.split_once('/')?;
            let parts = revision.map(|revision| revision.split('/')).into_iter().flatten();
            [owner, name]
                .into_iter()
                .chain(parts)
                .all(is_name)
                .then(|| Self { id: id.to_owned(), revision: revision.map(str::to_owned) })
        });
        model.ok_or_else(|| Error::Model {
            path: text.to_owned(),
            problem: "a model on the hub is hf:OWNER/NAME or hf:OWNER/NAME@REVISION, of letters, \
                      digits, `-`, `_` and `.`"
                .to_owned(),
        })
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.id)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether a text can be a part of an address and of a path, and leads nowhere else.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('.') && !text.contains("..")
}

/// Whether a text is the hash of a commit.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl HubModel {
    /// Its files that a model folder needs: configuration, tokenizer, weights. What the cache lacks is
    /// downloaded, with word to `progress` as bytes come. A commit of which the cache has all is not asked for.
    ///
    /// # Errors
    /// [`Error::Model`] naming the model and what to do: there is none of this name, it is gated, the hub is
    /// out of reach, a download broke off, or it lacks a file that a model needs.
    #[cfg(feature = "hub")]
    pub fn fetch(
        &self,
        settings: &HubSettings,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Snapshot, Error> {
        fetch::fetch(self, settings, progress)
    }

    /// Refuses: this build has no part for the hub.
    ///
    /// # Errors
    /// [`Error::Model`], always.
    #[cfg(not(feature = "hub"))]
    pub fn fetch(
        &self,
        _: &HubSettings,
        _: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Snapshot, Error> {
        let id = &self.id;
        Err(self.bad(format!(
            "this build cannot download: build it with the feature `hub`, or get the folder with \
             `hf download {id} --local-dir FOLDER` and give its path"
        )))
    }

    /// Where the cache has the files of its commit; nothing where the revision is none, or the cache has none.
    pub fn folder(&self, settings: &HubSettings) -> Option<PathBuf> {
        let commit = self.revision.as_deref().filter(|revision| is_commit(revision))?;
        Some(self.cached(settings).join("snapshots").join(commit)).filter(|folder| folder.is_dir())
    }

    /// The model's folder in the cache.
    fn cached(&self, settings: &HubSettings) -> PathBuf {
        settings.cache.join(format!("models--{}", self.id.replace('/', "--")))
    }

    pub(super) fn bad(&self, problem: impl Into<String>) -> Error {
        Error::Model { path: self.to_string(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests;
