//! Files written whole or not at all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

pub use distil_gpu_data::disk::refuse_pointer;
use distil_gpu_data::disk::{self, disk_error, folder_of};
pub(crate) use distil_gpu_data::disk::{TEMPORARY, pointer_problem, read_text, sync_folder};

use crate::error::Error;

/// The engine's error for what the system says of a file.
pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let error = disk_error(path);
    move |source| error(source).into()
}

pub(crate) fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Model { path: path.display().to_string(), problem: problem.into() }
}

/// Writes a file whole or not at all: to a temporary name beside it, synced, then renamed.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    Ok(disk::write_atomically(path, bytes)?)
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
        let written = disk::write_temporary(&folder.join(stem), bytes);
        (written, checksum.join().expect("a checksum cannot fail"))
    });
    Ok(disk::rename(written?, &folder.join(name(checksum)))?)
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

/// The same with 64-bit counters of these names, which are 0.
///
/// # Errors
/// As [`save_tensors`].
pub(crate) fn save_with_counters<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: &[(N, Vec<usize>, V)],
    counters: &[String],
) -> Result<(), Error> {
    write_atomically(path, &bytes_with_counters(path, tensors, counters, HashMap::new())?)
}

/// The bytes of such a file; `path` is for messages.
pub(crate) fn tensor_bytes<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: &[(N, Vec<usize>, V)],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, Error> {
    bytes_with_counters(path, tensors, &[], metadata)
}

fn bytes_with_counters<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: &[(N, Vec<usize>, V)],
    counters: &[String],
    mut metadata: HashMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let counters = counters.iter().map(|name| {
        TensorView::new(Dtype::I64, Vec::new(), &[0; 8]).map(|view| (name.as_str(), view))
    });
    let views = tensors
        .iter()
        .map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values.as_ref());
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_ref(), view))
        })
        .chain(counters)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(path, error.to_string()))?;
    // transformers asks for this key.
    metadata.insert("format".to_owned(), "pt".to_owned());
    safetensors::serialize(views, Some(metadata)).map_err(|error| bad(path, error.to_string()))
}
