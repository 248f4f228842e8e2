//! Files on disk: texts of bounded size, and files written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::DataError;

/// What the system says of a file or folder that is written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot be read or written")]
pub struct DiskError {
    /// The file or folder.
    pub path: String,
    /// What the system said.
    pub source: io::Error,
}

/// The error for what the system says of a file.
pub fn disk_error(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.display().to_string();
    move |source| DiskError { path, source }
}

/// How a file begins that stands for one that Git LFS has not fetched.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The longest such file.
const MOST_POINTER_BYTES: u64 = 1024;

/// What to do about a file, given how it begins, if it only stands for one that Git LFS has not fetched.
pub fn pointer_problem(beginning: &[u8]) -> Option<&'static str> {
    beginning.starts_with(POINTER).then_some(
        "it is a Git LFS pointer and not the file itself: run `git lfs install` and `git lfs pull` in its folder, or \
         download the file again",
    )
}

/// Refuses a file that only stands for one that Git LFS has not fetched. What is no file or cannot be read is left to
/// those who read it.
///
/// # Errors
/// [`DataError::File`] saying what to do.
pub fn refuse_pointer(path: &Path) -> Result<(), DataError> {
    let short = |path: &Path| {
        let about = fs::metadata(path).ok()?;
        (about.is_file() && about.len() <= MOST_POINTER_BYTES).then(|| fs::read(path).ok())?
    };
    match short(path).as_deref().and_then(pointer_problem) {
        Some(problem) => {
            let path = path.display().to_string();
            Err(DataError::File { path, problem: problem.to_owned() })
        }
        None => Ok(()),
    }
}

/// The text of a file of at most `most` bytes.
///
/// # Errors
/// [`DataError`] naming the file that cannot be read, is larger, is no UTF-8, or stands for another one.
pub fn read_text(path: &Path, most: u64) -> Result<String, DataError> {
    let name = || path.display().to_string();
    let unread = |source| DataError::Read { path: name(), source };
    let bad = |problem: String| DataError::File { path: name(), problem };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > most {
        return Err(bad(format!(
            "it has more than {most} bytes, which are the most of such a file"
        )));
    }
    if let Some(problem) = pointer_problem(&bytes) {
        return Err(bad(problem.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        bad(format!("it is no text in UTF-8: byte {at} is none of it"))
    })
}

/// Writes a file whole or not at all: to a temporary name beside it, synced, then renamed.
///
/// # Errors
/// [`DiskError`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = write_temporary(path, bytes)?;
    rename(file, path)
}

/// How the names of files and folders begin that are not whole yet.
pub const TEMPORARY: &str = ".distil-gpu-";

/// Writes a temporary file beside `path`, for [`rename`].
///
/// # Errors
/// [`DiskError`] naming the file.
pub fn write_temporary(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, DiskError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // As any new file: left to itself, a temporary file is its owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path)).map_err(disk_error(path))?;
    file.as_file_mut().write_all(bytes).map_err(disk_error(path))?;
    file.as_file().sync_all().map_err(disk_error(path))?;
    Ok(file)
}

/// Gives a temporary file its name, for good.
///
/// # Errors
/// [`DiskError`] naming the file.
pub fn rename(file: NamedTempFile, path: &Path) -> Result<(), DiskError> {
    file.persist(path).map_err(|error| disk_error(path)(error.error))?;
    sync_folder(folder_of(path)).map_err(disk_error(path))
}

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// New names in a folder too are to outlive a power cut. Only Unix can sync a folder.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
