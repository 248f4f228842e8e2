//! Downloads a model's files into the cache, or finds them there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ring::digest;
use serde::Deserialize;

use super::cache::ModelCache;
use super::client::{Client, Description};
use super::{HubModel, HubSettings, Progress, Snapshot, is_commit, is_name};
use crate::error::Error;
use crate::files::{bad, io_error};
use crate::models::weights::{self, INDEX};
use crate::models::{CONFIG, WEIGHTS, load_config};
use crate::words::hexadecimal;

/// The revision that is meant where none is given.
const MAIN: &str = "main";
/// Lists the parts of a model of sentence-transformers, each with a folder.
const MODULES: &str = "modules.json";
/// What else is taken where there is any: the tokenizer and what is said of it, and how sentences are embedded.
const OPTIONAL: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    MODULES,
];
/// The tokenizer of old models, which is read where the first of those is not there.
const OLD_TOKENIZER: &str = "vocab.txt";
/// The most bytes that a file of weights may have, and any other.
const MOST_BYTES: [u64; 2] = [1 << 40, 1 << 28];
/// Bytes that are written at one time.
const BUFFER: usize = 1 << 18;

/// See [`HubModel::fetch`].
pub(super) fn fetch(
    model: &HubModel,
    settings: &HubSettings,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Snapshot, Error> {
    let pinned = is_commit(model.revision());
    let source = match Source::cached(model, settings) {
        cached if settings.offline => cached?,
        Ok(cached) if pinned && cached.is_whole() => match cached.is_known() {
            true => cached,
            // Without a hub there may be no more, and what is needed is there.
            false => Source::online(model, settings).unwrap_or(cached),
        },
        _ => Source::online(model, settings)?,
    };
    source.collect(progress)?;
    source.keep_revision()?;
    Ok(Snapshot { folder: source.folder, commit: source.commit })
}

/// A commit of a model, on the hub or in the cache alone.
struct Source<'a> {
    model: &'a HubModel,
    cache: ModelCache<'a>,
    commit: String,
    /// Where the cache has its files.
    folder: PathBuf,
    hub: Option<Hub<'a>>,
}

/// The hub's side. It is asked for files of the commit, not of the branch, so that those of one download belong
/// together, whatever is pushed meanwhile.
struct Hub<'a> {
    client: Client<'a>,
    files: Vec<String>,
}

impl<'a> Source<'a> {
    /// Asks the hub what the revision is.
    fn online(model: &'a HubModel, settings: &'a HubSettings) -> Result<Self, Error> {
        let refused = |problem| model.bad(problem);
        let client = Client::new(model, settings).map_err(refused)?;
        let listing = client.list(model.revision()).map_err(refused)?;
        let cache = ModelCache::new(model, settings);
        Ok(Self {
            model,
            folder: cache.snapshot(&listing.commit),
            cache,
            commit: listing.commit,
            hub: Some(Hub { client, files: listing.files }),
        })
    }

    /// Looks the revision up in the cache.
    fn cached(model: &'a HubModel, settings: &'a HubSettings) -> Result<Self, Error> {
        let cache = ModelCache::new(model, settings);
        let revision = model.revision();
        let commit = match is_commit(revision) {
            true => Some(revision.to_owned()),
            false => cache.commit(revision).filter(|commit| is_commit(commit)),
        };
        let found = commit.map(|commit| (cache.snapshot(&commit), commit));
        match found.filter(|(folder, _)| folder.is_dir()) {
            Some((folder, commit)) => Ok(Self { model, cache, commit, folder, hub: None }),
            None => Err(model.bad(not_cached(&format!("revision {revision}")))),
        }
    }

    fn has(&self, file: &str) -> bool {
        match &self.hub {
            Some(hub) => hub.files.iter().any(|name| name == file),
            // A link whose blob is gone says that there is such a file.
            None => fs::symlink_metadata(self.folder.join(file)).is_ok(),
        }
    }

    /// Whether the cache has all that the model needs: another program may have fetched a part.
    fn is_whole(&self) -> bool {
        self.collect(&mut |_| {}).is_ok() && load_config(&self.folder).is_ok()
    }

    /// Whether the cache knows of every file that a model may have, if there is one.
    fn is_known(&self) -> bool {
        OPTIONAL.iter().all(|file| self.has(file) || self.cache.lacks(&self.commit, file))
    }

    /// Brings into the cache what a model needs, the weights last.
    fn collect(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        if !self.has(CONFIG) {
            return Err(self.model.bad(format!("it has no {CONFIG}")));
        }
        let weights = weights::first_of(|name| self.has(name));
        let weights = weights.map_err(|problem| self.model.bad(problem))?;
        self.get(CONFIG, progress)?;
        for file in OPTIONAL {
            if self.has(file) {
                self.get(file, progress)?;
            } else if self.hub.is_some() {
                self.cache.set_lacking(&self.commit, file)?;
            }
        }
        if !self.has(OPTIONAL[0]) && self.has(OLD_TOKENIZER) {
            self.get(OLD_TOKENIZER, progress)?;
        }
        if self.has(MODULES) {
            for folder in modules(&self.folder.join(MODULES))? {
                for file in [CONFIG, WEIGHTS].map(|file| format!("{folder}/{file}")) {
                    if self.has(&file) {
                        self.get(&file, progress)?;
                    }
                }
            }
        }
        let weights = self.get(weights, progress)?;
        if weights.ends_with(INDEX) {
            for shard in weights::shards(&weights)? {
                self.get(&shard, progress)?;
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
        let refused = |problem: String| self.model.bad(format!("{file}: {problem}"));
        if !file.split('/').all(is_name) {
            return Err(refused("no name that a model's file may have".to_owned()));
        }
        let Some(hub) = &self.hub else { return Err(self.model.bad(not_cached(file))) };
        let described = hub.client.describe(&self.commit, file).map_err(refused)?;
        let Description { etag, size } = &described;
        let [of_weights, of_others] = MOST_BYTES;
        let most = if file.ends_with(".safetensors") { of_weights } else { of_others };
        if *size > most {
            return Err(refused(format!("{size} bytes, and at most {most} are taken")));
        }
        let mut report =
            |bytes| progress(Progress { model: self.model, file, bytes, total: *size });
        let _lock = self.cache.lock(etag, |bytes| {
            if bytes < *size {
                report(bytes);
            }
        })?;
        let blob = self.cache.blob(etag);
        match fs::metadata(&blob) {
            Ok(data) if data.len() == *size => {}
            // Of others nobody can tell which is right, and models may be links to what is there.
            Ok(data) if described.sha256().is_none() => {
                let (blob, length) = (blob.display(), data.len());
                return Err(refused(format!(
                    "{blob} has {length} bytes, and the hub's file {size}: delete it"
                )));
            }
            _ => self.download(file, &described, hub, &mut report)?,
        }
        self.cache.link(&self.commit, file, etag)?;
        Ok(path)
    }

    /// Makes a file's blob out of what an earlier download left, and of the rest, which it asks for.
    fn download(
        &self,
        file: &str,
        described: &Description,
        hub: &Hub<'_>,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let refused = |problem: String| self.model.bad(format!("{file}: {problem}"));
        let size = described.size;
        let part = self.cache.incomplete(&described.etag);
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&part)
            .map_err(io_error(&part))?;
        let mut have = out.metadata().map_err(io_error(&part))?.len();
        if have > size {
            have = 0;
        }
        if have < size {
            let mut content = hub.client.open(&self.commit, file, have, size).map_err(refused)?;
            have = content.start;
            out.set_len(have).map_err(io_error(&part))?;
            out.seek(SeekFrom::Start(have)).map_err(io_error(&part))?;
            let mut buffer = vec![0; BUFFER];
            let broken = loop {
                match content.reader.read(&mut buffer) {
                    Ok(0) => break format!("{have} of {size} bytes came"),
                    Ok(read) if read as u64 > size - have => {
                        fs::remove_file(&part).map_err(io_error(&part))?;
                        return Err(refused(format!("more than its {size} bytes came: run again")));
                    }
                    Ok(read) => {
                        out.write_all(&buffer[..read]).map_err(io_error(&part))?;
                        have += read as u64;
                        report(have);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break error.to_string(),
                }
            };
            if have < size {
                return Err(refused(format!(
                    "the download broke off ({broken}): run again, and it goes on from there"
                )));
            }
        }
        out.sync_all().map_err(io_error(&part))?;
        if let Some(expected) = described.sha256() {
            let found = sha256(&mut out).map_err(io_error(&part))?;
            if !found.eq_ignore_ascii_case(expected) {
                fs::remove_file(&part).map_err(io_error(&part))?;
                return Err(refused(format!(
                    "what came is damaged: its SHA-256 is {found} and not {expected}: run again"
                )));
            }
        }
        let blob = self.cache.blob(&described.etag);
        fs::rename(&part, &blob).map_err(io_error(&blob))
    }

    /// Notes in the cache what commit the branch or tag is, for work offline.
    fn keep_revision(&self) -> Result<(), Error> {
        match self.hub.is_some() && !is_commit(self.model.revision()) {
            true => self.cache.set_commit(self.model.revision(), &self.commit),
            false => Ok(()),
        }
    }
}

impl HubModel {
    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
}

/// The folders of the parts of a model of sentence-transformers, but for the model's own.
fn modules(path: &Path) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
    }
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    let read: Vec<Module> = serde_json::from_str(&text)
        .map_err(|error| bad(path, format!("no list of modules: {error}")))?;
    let folders = read.into_iter().map(|module| module.path).filter(|path| !path.is_empty());
    folders
        .map(|folder| match folder.split('/').all(is_name) {
            true => Ok(folder),
            false => Err(bad(path, format!("it names {folder:?}, which is no folder of it"))),
        })
        .collect()
}

/// The SHA-256 of a file, in hexadecimal digits.
fn sha256(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hexadecimal(context.finish().as_ref()))
}

fn not_cached(what: &str) -> String {
    format!("{what} is not in the cache, and HF_HUB_OFFLINE forbids to download it: unset it")
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
