//! The cache of Hugging Face's own tools: `models--OWNER--NAME` with `blobs` (contents, by hash), `snapshots` (the files
//! of a commit, links to blobs), `refs` (what commit a branch was) and `.no_exist` (files that a commit lacks).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::client::SILENCE;
use super::{HubModel, HubSettings};
use crate::error::Error;
use crate::files::{io_error, write_atomically};

/// How often a lock that is taken is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// The cache of one model.
pub(super) struct ModelCache<'a> {
    model: &'a HubModel,
    folder: PathBuf,
    locks: PathBuf,
}

/// Held while a blob is made; the system frees it when the program ends, however it ends.
pub(super) struct Lock {
    _file: Option<File>,
}

impl<'a> ModelCache<'a> {
    pub fn new(model: &'a HubModel, settings: &HubSettings) -> Self {
        let folder = model.cached(settings);
        let name = folder.file_name().unwrap_or_default();
        Self { model, locks: settings.cache.join(".locks").join(name), folder }
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// What commit a branch or tag was when it was last asked for.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let commit = fs::read_to_string(self.reference(revision)).ok()?;
        Some(commit.trim().to_owned())
    }

    /// Notes what commit a branch or tag is.
    pub fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.reference(revision);
        create_parent(&path)?;
        write_atomically(&path, commit.as_bytes())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// Whether it is known that a commit lacks a file.
    pub fn lacks(&self, commit: &str, file: &str) -> bool {
        self.absence(commit, file).is_file()
    }

    /// Notes that a commit lacks a file.
    pub fn set_lacking(&self, commit: &str, file: &str) -> Result<(), Error> {
        let path = self.absence(commit, file);
        create_parent(&path)?;
        File::create(&path).map(drop).map_err(io_error(&path))
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file)
    }

    /// Where a content lies.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Where it lies while it is not whole.
    pub fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Keeps other programs from a blob. While one has it, `report` is told the bytes that it has got.
    ///
    /// # Errors
    /// [`Error::Model`] when another program has it and gets nothing; [`Error::Io`] naming the lock.
    pub fn lock(&self, etag: &str, mut report: impl FnMut(u64)) -> Result<Lock, Error> {
        create_parent(&self.blob(etag))?;
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error(&path))?;
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: Some(file) }),
                Err(TryLockError::WouldBlock) if since.elapsed() > SILENCE => {
                    let path = path.display();
                    return Err(self.model.bad(format!(
                        "another program is downloading it, and gets nothing (it holds {path}): end \
                         it, or run again later"
                    )));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                // Some shared file systems have no locks: what is wrong then is found by its hash.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(Lock { _file: None });
                }
                Err(TryLockError::Error(error)) => return Err(io_error(&path)(error)),
            }
            let bytes = fs::metadata(self.incomplete(etag)).map_or(seen, |data| data.len());
            if bytes != seen {
                (seen, since) = (bytes, Instant::now());
                report(bytes);
            }
        }
    }

    /// Makes a blob a file of a commit: a link, as Hugging Face's tools make it, or a copy where the system makes
    /// none.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), Error> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        // A link to a blob that is gone is there, and in the way.
        if fs::symlink_metadata(&path).is_ok_and(|data| data.is_symlink()) {
            fs::remove_file(&path).map_err(io_error(&path))?;
        }
        let up = "../".repeat(2 + file.matches('/').count());
        let blob = self.blob(etag);
        if symlink(format!("{up}blobs/{etag}").as_ref(), &path).is_ok()
            || fs::hard_link(&blob, &path).is_ok()
        {
            return Ok(());
        }
        let copy = self.incomplete(etag);
        fs::copy(&blob, &copy).map_err(io_error(&copy))?;
        fs::rename(&copy, &path).map_err(io_error(&path))
    }
}

fn create_parent(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io_error(folder))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    let target = target.to_string_lossy().replace('/', "\\");
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
