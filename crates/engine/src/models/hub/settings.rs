//! Where the hub is, and what is kept of it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The hub, unless told otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// What Hugging Face's tools take from the environment. It cannot be printed, for the token's sake.
#[derive(Clone)]
pub struct HubSettings {
    /// Folder of downloaded models.
    pub cache: PathBuf,
    /// Address of the hub.
    pub endpoint: String,
    /// The user's token, for gated and private models.
    pub token: Option<String>,
    /// Whether only the cache may be used.
    pub offline: bool,
}

impl HubSettings {
    /// The settings of `HF_HUB_CACHE` or else `HF_HOME`, of `HF_ENDPOINT`, of `HF_TOKEN` or else the token
    /// that `hf auth login` left, and of `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Model`] when nothing says where the cache is.
    pub fn from_env() -> Result<Self, Error> {
        // An empty variable is as good as none.
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self::from_variables(variable, env::home_dir())
    }

    pub(super) fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        user_home: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| user_home.map(|home| home.join(".cache").join("huggingface")))
            .ok_or_else(|| Error::Model {
                path: super::SCHEME.to_owned(),
                problem: "there is no home folder for the cache: set HF_HOME".to_owned(),
            })?;
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let stored = || {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            read_token(&file)
        };
        Ok(Self {
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: variable("HF_TOKEN").and_then(|token| trim(&token)).or_else(stored),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        })
    }
}

fn read_token(path: &Path) -> Option<String> {
    trim(&fs::read_to_string(path).ok()?)
}

/// A token without the line ends that come with copying.
fn trim(token: &str) -> Option<String> {
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&&*value.to_lowercase())
}
