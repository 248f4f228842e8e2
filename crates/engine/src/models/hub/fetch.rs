//! Downloads a model's files into the cache, or finds them there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{HubModel, HubSettings, Progress, Snapshot, is_commit};
use crate::error::Error;
use crate::files::io_error;
use crate::models::weights::{self, INDEX};
use crate::models::{CONFIG, load_config};

/// The revision that is meant where none is given.
const MAIN: &str = "main";
/// The tokenizer of a model that reads texts.
const TOKENIZER: &str = "tokenizer.json";
/// What else is said of it.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// See [`HubModel::fetch`].
pub(super) fn fetch(
    model: &HubModel,
    settings: &HubSettings,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Snapshot, Error> {
    let cached = Source::cached(model, settings);
    let source = match cached {
        cached if settings.offline => cached?,
        Ok(cached) if is_commit(model.revision()) && cached.is_whole() => cached,
        _ => Source::online(model, settings)?,
    };
    source.collect(progress)?;
    source.keep_revision(settings)?;
    Ok(Snapshot { folder: source.folder, commit: source.commit })
}

/// The files that a model folder needs, of those that there are; the weights last.
fn choose(files: &[String]) -> Result<Vec<&'static str>, String> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if !has(CONFIG) {
        return Err(format!("it has no {CONFIG}"));
    }
    let tokenizer = [TOKENIZER, TOKENIZER_CONFIG].into_iter().filter(|name| has(name));
    Ok([CONFIG].into_iter().chain(tokenizer).chain([weights::first_of(has)?]).collect())
}

/// A commit of a model, on the hub or in the cache alone.
struct Source<'a> {
    model: &'a HubModel,
    settings: &'a HubSettings,
    commit: String,
    /// Names of its files.
    files: Vec<String>,
    /// Where the cache has them.
    folder: PathBuf,
    /// The hub's side: the commit, not the branch, so that files of one download are of one commit, whatever is
    /// pushed meanwhile.
    repo: Option<ApiRepo>,
}

impl<'a> Source<'a> {
    /// Asks the hub what the revision is.
    fn online(model: &'a HubModel, settings: &'a HubSettings) -> Result<Self, Error> {
        let failure = |error| model.bad(explain(model, settings, error));
        let api = api(settings).map_err(failure)?;
        let info = info(&api, model, settings).map_err(|problem| model.bad(problem))?;
        if !is_commit(&info.sha) {
            let problem = format!("{}: no commit's hash", no_hub(settings));
            return Err(model.bad(problem));
        }
        let repo = api.repo(repo_at(model, &info.sha));
        Ok(Self {
            model,
            settings,
            folder: model.cached(settings).join("snapshots").join(&info.sha),
            commit: info.sha,
            files: info.siblings.into_iter().map(|file| file.rfilename).collect(),
            repo: Some(repo),
        })
    }

    /// Looks the revision up in the cache.
    fn cached(model: &'a HubModel, settings: &'a HubSettings) -> Result<Self, Error> {
        let revision = model.revision();
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => {
                let reference = model.cached(settings).join("refs").join(revision);
                fs::read_to_string(reference).unwrap_or_default().trim().to_owned()
            }
        };
        let at_commit = HubModel { id: model.id.clone(), revision: Some(commit.clone()) };
        let folder = at_commit
            .folder(settings)
            .ok_or_else(|| model.bad(not_cached(&format!("revision {revision}"))))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io_error(&folder))? {
            let entry = entry.map_err(io_error(&folder))?;
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(Self { model, settings, commit, files, folder, repo: None })
    }

    /// Whether the cache has all that the model needs: another program may have fetched a part.
    fn is_whole(&self) -> bool {
        self.collect(&mut |_| {}).is_ok() && load_config(&self.folder).is_ok()
    }

    /// Brings into the cache what a model needs.
    fn collect(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        for file in choose(&self.files).map_err(|problem| self.model.bad(problem))? {
            let path = self.get(file, progress)?;
            if file == INDEX {
                for shard in weights::shards(&path)? {
                    self.get(&shard, progress)?;
                }
            }
        }
        Ok(())
    }

    /// A file's path in the cache, where it is put first if it is not there.
    fn get(&self, file: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, Error> {
        let path = self.folder.join(file);
        if path.is_file() {
            return Ok(path);
        }
        let Self { model, settings, .. } = self;
        let Some(repo) = &self.repo else { return Err(model.bad(not_cached(file))) };
        let mut meter = Meter { report: progress, model, file, bytes: 0, total: 0 };
        repo.download_with_progress(file, &mut meter)
            .map_err(|error| model.bad(format!("{file}: {}", explain(model, settings, error))))?;
        let length = fs::metadata(&path).map_err(io_error(&path))?.len();
        if length != meter.total {
            // A server that knows no ranges sends the whole file behind the part that was there.
            remove(&path)?;
            return Err(model.bad(format!(
                "{file}: {length} bytes came of a file of {}: run again",
                meter.total
            )));
        }
        Ok(path)
    }

    /// Notes in the cache what commit the branch or tag is, for work offline.
    fn keep_revision(&self, settings: &HubSettings) -> Result<(), Error> {
        if self.repo.is_none() || is_commit(self.model.revision()) {
            return Ok(());
        }
        let repo = repo_at(self.model, self.model.revision());
        let reference = self.model.cached(settings).join("refs").join(repo.revision());
        let cache = Cache::new(settings.cache.clone());
        cache.repo(repo).create_ref(&self.commit).map_err(io_error(&reference))
    }
}

impl HubModel {
    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
}

fn api(settings: &HubSettings) -> Result<Api, ApiError> {
    ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_user_agent("distil-gpu", env!("CARGO_PKG_VERSION"))
        .build()
}

fn repo_at(model: &HubModel, revision: &str) -> Repo {
    Repo::with_revision(model.id.clone(), RepoType::Model, revision.to_owned())
}

/// What the hub says of a revision: its commit and files.
///
/// # Errors
/// What went wrong and what to do.
fn info(api: &Api, model: &HubModel, settings: &HubSettings) -> Result<RepoInfo, String> {
    let failure = |error: ureq::Error| explain(model, settings, Box::new(error).into());
    // As an error a status would come without the header that tells why.
    let request = api.repo(repo_at(model, model.revision())).info_request();
    let request = request.config().http_status_as_error(false).build();
    let mut response = request.call().map_err(failure)?;
    let code = response.headers().get("X-Error-Code").and_then(|code| code.to_str().ok());
    match (response.status().as_u16(), code) {
        (200, _) => response.body_mut().read_json().map_err(failure),
        (_, Some("GatedRepo")) => Err(gated(model, settings)),
        (_, Some("RevisionNotFound")) => Err(format!("it has no revision {}", model.revision())),
        (401 | 403 | 404, _) if settings.token.is_none() => {
            Err("there is no such model, or it is \
            private: check the name, or set HF_TOKEN to a token that may read it"
                .to_owned())
        }
        (401 | 403 | 404, _) => {
            Err("there is no such model, or your token may not read it: check the \
            name, and that the token is valid"
                .to_owned())
        }
        (status, _) => Err(answered(settings, status)),
    }
}

/// Removes a cached file and what it links to.
fn remove(path: &Path) -> Result<(), Error> {
    let blob = fs::canonicalize(path).map_err(io_error(path))?;
    fs::remove_file(path).map_err(io_error(path))?;
    match blob.exists() {
        true => fs::remove_file(&blob).map_err(io_error(&blob)),
        false => Ok(()),
    }
}

/// Counts the bytes of a file that come.
struct Meter<'a> {
    report: &'a mut dyn FnMut(Progress<'_>),
    model: &'a HubModel,
    file: &'a str,
    bytes: u64,
    total: u64,
}

impl hf_hub::api::Progress for &mut Meter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.bytes, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        // The last reading of a file brings nothing.
        if size > 0 {
            self.bytes += size as u64;
            let Meter { model, file, bytes, total, .. } = **self;
            (self.report)(Progress { model, file, bytes, total });
        }
    }

    fn finish(&mut self) {}
}

fn not_cached(what: &str) -> String {
    format!("{what} is not in the cache, and HF_HUB_OFFLINE forbids to download it: unset it")
}

fn gated(model: &HubModel, settings: &HubSettings) -> String {
    let (id, endpoint) = (&model.id, &settings.endpoint);
    format!("it is gated: accept its terms at {endpoint}/{id} and set HF_TOKEN to your token")
}

fn answered(settings: &HubSettings, status: u16) -> String {
    format!("{} answered with status {status}: try again later", settings.endpoint)
}

fn no_hub(settings: &HubSettings) -> String {
    format!("{} does not answer as the hub does", settings.endpoint)
}

/// What went wrong with a file, or before any answer, and what to do.
fn explain(model: &HubModel, settings: &HubSettings, error: ApiError) -> String {
    use ureq::Error as Http;

    let stale = || {
        let blobs = model.cached(settings).join("blobs");
        format!("what an earlier download left is unfit: delete {}/*.part", blobs.display())
    };
    match error {
        ApiError::RequestError(error) => match *error {
            Http::StatusCode(401 | 403) => gated(model, settings),
            Http::StatusCode(404) => format!("{} has no such file", settings.endpoint),
            Http::StatusCode(416) => stale(),
            Http::StatusCode(status) => answered(settings, status),
            error @ (Http::Json(_) | Http::Protocol(_)) => {
                format!("{} ({error})", no_hub(settings))
            }
            error => format!(
                "{} is out of reach ({error}): check the connection, or set HF_HUB_OFFLINE=1 to use \
                 what is in the cache",
                settings.endpoint
            ),
        },
        ApiError::InvalidResume => stale(),
        ApiError::IoError(error) if error.kind() != ErrorKind::InvalidData => {
            format!("the download broke off ({error}): run again, and it goes on from there")
        }
        ApiError::LockAcquisition(path) => {
            format!("another program is downloading it (it holds {})", path.display())
        }
        error => format!("{} ({error})", no_hub(settings)),
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
