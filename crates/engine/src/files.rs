//! Files written whole or not at all, and safetensors files of floats.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use crate::error::Error;
use crate::floats::floats;

/// Bytes in front of a safetensors header: its length.
const LENGTH_BYTES: usize = 8;

/// The engine's error for what the system says of a file.
pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { path, source }
}

fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Model { path: path.display().to_string(), problem: problem.into() }
}

/// Writes a file whole or not at all: to a temporary name beside it, synced, then renamed.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // As any new file: left to itself, a temporary file is its owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(io_error(path))?;
    file.as_file_mut().write_all(bytes).map_err(io_error(path))?;
    file.as_file().sync_all().map_err(io_error(path))?;
    file.persist(path).map_err(|error| io_error(path)(error.error))?;
    // The new name too is to outlive a power cut. Only Unix can sync a folder.
    #[cfg(unix)]
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(path))?;
    Ok(())
}

/// How the names of files begin that are not whole yet.
const TEMPORARY: &str = ".distil-gpu-";

/// Deletes what a killed program left half-written in a folder.
pub(crate) fn remove_temporary(folder: &Path) -> Result<(), Error> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_file(entry.path()).map_err(io_error(&entry.path()))?;
        }
    }
    Ok(())
}

/// Writes named f32 tensors (name, shape, values) into a safetensors file, whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::Model`] naming the file.
pub fn save_tensors<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: &[(N, Vec<usize>, V)],
    mut metadata: HashMap<String, String>,
) -> Result<(), Error> {
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
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| bad(path, error.to_string()))?;
    write_atomically(path, &bytes)
}

/// A safetensors file in memory, its header checked against its length.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Metadata,
    data_at: usize,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Model`] when it is not a whole safetensors file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(io_error(path))?;
        let whole = SafeTensors::deserialize(&bytes).map(|_| ());
        let header = whole.and_then(|()| SafeTensors::read_metadata(&bytes));
        let (length, header) =
            header.map_err(|error| bad(path, format!("not a whole safetensors file ({error})")))?;
        Ok(Self { path: path.to_owned(), bytes, header, data_at: LENGTH_BYTES + length })
    }

    /// Names of its tensors.
    pub fn names(&self) -> Vec<String> {
        self.header.tensors().into_keys().collect()
    }

    /// An entry of its metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| &*info.shape)
    }

    /// The values of a tensor that must be floats, finite and of this shape.
    ///
    /// # Errors
    /// [`Error::Model`] naming file, tensor and what is wrong.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let Some(info) = self.header.info(name) else {
            return Err(bad(&self.path, format!("it has no tensor {name}")));
        };
        let (start, end) = info.data_offsets;
        let bytes = &self.bytes[self.data_at + start..self.data_at + end];
        let values = floats(info.dtype, bytes).filter(|_| info.shape == shape);
        let values = values.ok_or_else(|| {
            let (dtype, found) = (info.dtype, &info.shape);
            bad(&self.path, format!("{name} is {dtype:?} {found:?}, and must be F32 {shape:?}"))
        })?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                let problem = format!("{name} holds {} at element {at}", values[at]);
                Err(bad(&self.path, problem))
            }
            None => Ok(values),
        }
    }
}
