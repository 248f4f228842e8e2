//! Where the files of a cache lie. All that reads or writes them goes through here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::{bad, io_error, make_folder, remove_temporary, write_atomically};
use crate::tensor_file::TensorFile;

/// How the names of a cache's files end.
const SUFFIX: &str = ".safetensors";
/// Name of the file that those who write lock, all together.
const LOCK: &str = "lock";

/// A folder of files that are written whole or not at all, by any number of processes at once.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    /// Held as long as files may be written.
    _lock: Option<File>,
}

impl Shelf {
    /// A folder to read from.
    ///
    /// # Errors
    /// [`Error::Model`] when there is none.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        if folder.is_dir() {
            return Ok(Self { folder: folder.to_owned(), _lock: None });
        }
        Err(bad(
            folder,
            "is no cache of a teacher's answers: `distil-gpu label` makes one of the recipe",
        ))
    }

    /// A folder to write into, which is made where it is missing. Whoever is alone in it deletes what killed processes left
    /// half-written.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file or folder.
    pub fn write_to(folder: &Path) -> Result<Self, Error> {
        make_folder(folder)?;
        let path = folder.join(LOCK);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io_error(&path))?;
        // A file system without locks tells nobody who is alone.
        let lock = match file.try_lock() {
            Ok(()) => {
                remove_temporary(folder)?;
                file.unlock().map_err(io_error(&path))?;
                true
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => false,
        };
        if lock {
            file.lock_shared().map_err(io_error(&path))?;
        }
        Ok(Self { folder: folder.to_owned(), _lock: lock.then_some(file) })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of its files, sorted.
    ///
    /// # Errors
    /// [`Error::Io`] naming the folder.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io_error(&self.folder))? {
            let name = entry.map_err(io_error(&self.folder))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if name.ends_with(SUFFIX) && !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The name of a file whose content is called so.
    pub fn name_of(content: &str) -> String {
        format!("{content}{SUFFIX}")
    }

    /// Where a file lies, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Opens a file.
    pub(super) fn file(&self, name: &str) -> Result<TensorFile, Error> {
        TensorFile::open(&self.path(name))
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        write_atomically(&self.path(name), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_half_written_goes_when_nobody_else_writes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a/b");
        assert!(Shelf::open(&folder).unwrap_err().to_string().contains("distil-gpu label"));
        let first = Shelf::write_to(&folder).unwrap();
        let left = folder.join(".distil-gpu-abc");
        fs::write(&left, "half").unwrap();
        let second = Shelf::write_to(&folder).unwrap();
        assert!(left.exists(), "it may be the first one's");
        first.write("x.safetensors", b"1").unwrap();
        second.write("x.safetensors", b"1").unwrap();
        drop((first, second));
        let third = Shelf::write_to(&folder).unwrap();
        assert!(!left.exists());
        assert_eq!(third.names().unwrap(), ["x.safetensors"]);
        assert!(third.has("x.safetensors") && !third.has("y.safetensors"));
    }
}
