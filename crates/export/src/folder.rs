//! The folder, written whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::files::write_atomically;
use distil_gpu_engine::models;
use distil_gpu_engine::results::Exports;
use serde_json::{Value, json};

use crate::card::{Card, card};
use crate::error::{Error, io, unless};
use crate::export::Export;
use crate::parts::{Work, copy_tokenizer};

/// Name of the file that lists what an export wrote, by which a later one knows what it may replace.
pub const MANIFEST: &str = "export.json";
/// The longest list that is read.
const MOST_MANIFEST_BYTES: u64 = 1 << 20;
/// The files of an exported folder, with their bytes.
pub type Files = BTreeMap<String, u64>;

impl Export<'_> {
    /// Writes the folder, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] and [`Error::NotOurs`] where something is there, and what a part cannot have.
    pub fn write(&self, to: &Path) -> Result<Files, Error> {
        self.write_measured(to, &|| false, |_| Ok(None)).map(|(files, _)| files)
    }

    /// As [`Self::write`], with what `measure` finds of the folder's other files in its card. `stop` is asked from part to
    /// part whether to leave off.
    ///
    /// # Errors
    /// As [`Self::write`] and `measure`, and [`Error::Stopped`].
    pub fn write_measured(
        &self,
        to: &Path,
        stop: &dyn Fn() -> bool,
        measure: impl FnOnce(&Path) -> Result<Option<Exports>, Error>,
    ) -> Result<(Files, Option<Exports>), Error> {
        for part in &self.parts {
            part.check(self.config)?;
        }
        check_place(to, self.force)?;
        let parent = parent(to);
        fs::create_dir_all(&parent).map_err(io(&parent))?;
        let temporary = temporary(&parent)?;
        let folder = temporary.path().join("new");
        fs::create_dir(&folder).map_err(io(&folder))?;
        models::save(&folder, self.config, self.values)?;
        copy_tokenizer(self.from, &folder)?;
        let work = Work::new(self, &folder);
        for part in &self.parts {
            unless(stop)?;
            part.write(&work)?;
        }
        unless(stop)?;
        let title = to.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
        let exports = measure(&folder)?;
        let facts = Card { title: &title, export: self, exports: exports.as_ref() };
        write_atomically(&folder.join("README.md"), card(&facts).as_bytes())?;
        let files = files(&folder)?;
        let program = format!("distil-gpu {}", env!("CARGO_PKG_VERSION"));
        let manifest = json!({ "program": program, "files": files });
        write_atomically(&folder.join(MANIFEST), format!("{manifest:#}\n").as_bytes())?;
        self.put(&folder, to, temporary.path())?;
        Ok((files, exports))
    }

    /// Puts the new folder in its place; what was there comes back if that fails.
    fn put(&self, folder: &Path, to: &Path, temporary: &Path) -> Result<(), Error> {
        // What was there may have come while this one was written.
        check_place(to, self.force)?;
        let old = temporary.join("old");
        let replaces = to.exists();
        if replaces {
            fs::rename(to, &old).map_err(io(to))?;
        }
        fs::rename(folder, to).map_err(|error| {
            if replaces {
                // The first error is the one to tell.
                let _ = fs::rename(&old, to);
            }
            io(to)(error)
        })
    }
}

fn parent(to: &Path) -> PathBuf {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn temporary(parent: &Path) -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new().prefix(".export-").tempdir_in(parent).map_err(io(parent))
}

/// Files of a folder and what they weigh, by their paths in it.
fn files(folder: &Path) -> Result<Files, Error> {
    let mut found = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(io(&next))? {
            let entry = entry.map_err(io(&next))?;
            let kind = entry.file_type().map_err(io(&entry.path()))?;
            if kind.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = entry.metadata().map_err(io(&entry.path()))?.len();
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap_or(&path);
            found.insert(name.to_string_lossy().replace('\\', "/"), bytes);
        }
    }
    Ok(found)
}

/// Checks that nothing of a person's is where a folder is to be written.
fn check_place(to: &Path, force: bool) -> Result<(), Error> {
    let Ok(found) = fs::symlink_metadata(to) else { return Ok(()) };
    let not_ours =
        |found: &str| Err(Error::NotOurs { path: to.to_owned(), found: found.to_owned() });
    if !found.is_dir() {
        return match force {
            true => not_ours("what is no folder"),
            false => Err(Error::Exists { path: to.to_owned() }),
        };
    }
    let there = files(to)?;
    if there.is_empty() {
        return Ok(());
    }
    if !force {
        return Err(Error::Exists { path: to.to_owned() });
    }
    let ours = manifest(&to.join(MANIFEST));
    match there.keys().find(|name| *name != MANIFEST && !ours.contains(name)) {
        Some(foreign) => not_ours(foreign),
        None => Ok(()),
    }
}

/// Names of the files that an export wrote.
fn manifest(path: &Path) -> Vec<String> {
    let short = fs::metadata(path).is_ok_and(|found| found.len() <= MOST_MANIFEST_BYTES);
    let text = if short { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    json["files"].as_object().map_or_else(Vec::new, |files| files.keys().cloned().collect())
}
