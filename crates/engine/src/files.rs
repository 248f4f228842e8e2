//! Files written whole or not at all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tempfile::NamedTempFile;

use crate::data::DataError;
use crate::error::Error;

/// The engine's error for what the system says of a file.
pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { path, source }
}

pub(crate) fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Model { path: path.display().to_string(), problem: problem.into() }
}

/// How a file begins that stands for one that Git LFS has not fetched.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The longest such file.
const MOST_POINTER_BYTES: u64 = 1024;

/// What to do about a file, given how it begins, if it only stands for one that Git LFS has not fetched.
pub(crate) fn pointer_problem(beginning: &[u8]) -> Option<&'static str> {
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
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String, DataError> {
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
/// [`Error::Io`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = write_temporary(path, bytes)?;
    rename(file, path)
}

/// As [`write_atomically`], to a file in a folder whose name follows from the checksum (CRC-32) of the bytes. That is
/// computed while they are written.
///
/// # Errors
/// [`Error::Io`] naming the file; `stem` stands for its name until that is known.
pub(crate) fn write_by_checksum(
    folder: &Path,
    stem: &str,
    bytes: &[u8],
    name: impl FnOnce(u32) -> String,
) -> Result<(), Error> {
    let (written, checksum) = std::thread::scope(|scope| {
        let checksum = scope.spawn(|| crc32fast::hash(bytes));
        let written = write_temporary(&folder.join(stem), bytes);
        (written, checksum.join().expect("a checksum cannot fail"))
    });
    rename(written?, &folder.join(name(checksum)))
}

/// Writes a temporary file beside `path`.
fn write_temporary(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // As any new file: left to itself, a temporary file is its owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path)).map_err(io_error(path))?;
    file.as_file_mut().write_all(bytes).map_err(io_error(path))?;
    file.as_file().sync_all().map_err(io_error(path))?;
    Ok(file)
}

fn rename(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    file.persist(path).map_err(|error| io_error(path)(error.error))?;
    sync_folder(folder_of(path)).map_err(io_error(path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// New names in a folder too are to outlive a power cut. Only Unix can sync a folder.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Makes a folder and those above it where they are missing; they outlive a power cut, as what is written into them does.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(folder_of(folder)).map_err(io_error(folder)),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
            let Some(above) = above else { return Err(io_error(folder)(error)) };
            make_folder(above)?;
            make_folder(folder)
        }
        Err(error) => Err(io_error(folder)(error)),
    }
}

/// How the names of files and folders begin that are not whole yet.
pub(crate) const TEMPORARY: &str = ".distil-gpu-";

/// Deletes what a killed program left half-written in a folder.
pub(crate) fn remove_temporary(folder: &Path) -> Result<(), Error> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let path = entry.path();
            let is_folder = entry.file_type().map_err(io_error(&path))?.is_dir();
            let removed =
                if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(io_error(&path))?;
        }
    }
    Ok(())
}

/// Length and checksum (CRC-32) of a file.
pub(crate) fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    const PIECE_BYTES: usize = 1 << 18;
    let mut file = File::open(path)?;
    let (mut piece, mut digest, mut len) = (vec![0; PIECE_BYTES], crc32fast::Hasher::new(), 0);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((len, digest.finalize())),
            Ok(read) => {
                digest.update(&piece[..read]);
                len += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes named f32 tensors (name, shape, values) into a safetensors file, whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::Model`] naming the file.
pub fn save_tensors<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: &[(N, Vec<usize>, V)],
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    write_atomically(path, &tensor_bytes(path, tensors, metadata)?)
}

/// The bytes of such a file; `path` is for messages.
pub(crate) fn tensor_bytes<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: &[(N, Vec<usize>, V)],
    mut metadata: HashMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let views = tensors
        .iter()
        .map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values.as_ref());
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_ref(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(path, error.to_string()))?;
    // transformers asks for this key.
    metadata.insert("format".to_owned(), "pt".to_owned());
    safetensors::serialize(views, Some(metadata)).map_err(|error| bad(path, error.to_string()))
}
