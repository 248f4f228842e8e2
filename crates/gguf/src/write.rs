//! A GGUF file written: version 3, tensors aligned to 32 bytes.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::blocks::TensorType;
use crate::container::{ALIGNMENT, MAGIC};
use crate::error::Error;
use crate::value::{Array, Value};

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its name in the file.
    pub name: String,
    /// Its shape, the slowest dimension first.
    pub shape: Vec<usize>,
    /// How its numbers are written.
    pub kind: TensorType,
}

/// A file that is being written, under a temporary name beside its own; it has its own once [`Writer::finish`] has
/// brought it to the disk, and is gone if that is not reached.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    /// Names and sizes of the tensors that are still to be written.
    left: std::vec::IntoIter<(String, usize)>,
}

impl Writer {
    /// Begins a file: its metadata, and what tensors it has, in the order in which they are then written.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tensor`] for a shape that its type cannot have.
    pub fn create(
        path: &Path,
        metadata: &[(String, Value)],
        tensors: &[Outline],
    ) -> Result<Self, Error> {
        let mut header = Vec::from(MAGIC);
        header.extend(3_u32.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            put_text(&mut header, key);
            put_value(&mut header, value);
        }
        let (mut left, mut offset) = (Vec::new(), 0);
        for Outline { name, shape, kind } in tensors {
            let wrong = || {
                Error::tensor(path, name, format!("{shape:?} cannot be written as {}", kind.name()))
            };
            let bytes = kind.bytes(shape).filter(|_| shape.len() <= 4).ok_or_else(wrong)?;
            put_text(&mut header, name);
            header.extend((shape.len() as u32).to_le_bytes());
            header.extend(shape.iter().rev().flat_map(|&n| (n as u64).to_le_bytes()));
            header.extend(kind.id().to_le_bytes());
            header.extend(u64::to_le_bytes(offset));
            offset += (bytes as u64).next_multiple_of(ALIGNMENT);
            left.push((name.clone(), bytes));
        }
        pad(&mut header);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tmp-");
        // As any new file: left to itself, a temporary file is its owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder_of(path)).map_err(Error::io(path))?;
        let mut file = BufWriter::new(file);
        file.write_all(&header).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), file, left: left.into_iter() })
    }

    /// Writes the next tensor's blocks.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tensor`] when they are not as many bytes as its shape takes; [`Error::File`] when there
    /// is no next tensor.
    pub fn write(&mut self, blocks: &[u8]) -> Result<(), Error> {
        let Some((name, bytes)) = self.left.next() else {
            return Err(Error::file(&self.path, "a tensor more than were announced"));
        };
        if blocks.len() != bytes {
            let problem = format!("{} bytes, and its shape takes {bytes}", blocks.len());
            return Err(Error::tensor(&self.path, &name, problem));
        }
        let fill = bytes.next_multiple_of(ALIGNMENT as usize) - bytes;
        let written = self
            .file
            .write_all(blocks)
            .and_then(|()| self.file.write_all(&[0; ALIGNMENT as usize][..fill]));
        written.map_err(Error::io(&self.path))
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tensor`] naming a tensor that was not written.
    pub fn finish(mut self) -> Result<(), Error> {
        if let Some((name, _)) = self.left.next() {
            return Err(Error::tensor(&self.path, &name, "it was announced and not written"));
        }
        let file =
            self.file.into_inner().map_err(|error| Error::io(&self.path)(error.into_error()))?;
        file.as_file().sync_all().map_err(Error::io(&self.path))?;
        file.persist(&self.path).map_err(|error| Error::io(&self.path)(error.error))?;
        // A new name is to outlive a power cut too; only Unix can sync a folder.
        if cfg!(unix) {
            let folder =
                std::fs::File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all());
            folder.map_err(Error::io(&self.path))?;
        }
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

macro_rules! put_array {
    ($to:ident, $values:ident, $id:literal) => {{
        $to.extend(u32::to_le_bytes($id));
        $to.extend(($values.len() as u64).to_le_bytes());
        $to.extend($values.iter().flat_map(|v| v.to_le_bytes()));
    }};
}

fn put_value(to: &mut Vec<u8>, value: &Value) {
    let kind: u32 = match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    };
    to.extend(kind.to_le_bytes());
    match value {
        Value::U8(v) => to.push(*v),
        Value::I8(v) => to.extend(v.to_le_bytes()),
        Value::U16(v) => to.extend(v.to_le_bytes()),
        Value::I16(v) => to.extend(v.to_le_bytes()),
        Value::U32(v) => to.extend(v.to_le_bytes()),
        Value::I32(v) => to.extend(v.to_le_bytes()),
        Value::F32(v) => to.extend(v.to_le_bytes()),
        Value::Bool(v) => to.push(u8::from(*v)),
        Value::String(text) => put_text(to, text),
        Value::Array(array) => put_values(to, array),
        Value::U64(v) => to.extend(v.to_le_bytes()),
        Value::I64(v) => to.extend(v.to_le_bytes()),
        Value::F64(v) => to.extend(v.to_le_bytes()),
    }
}

fn put_values(to: &mut Vec<u8>, array: &Array) {
    match array {
        Array::U8(values) => put_array!(to, values, 0),
        Array::I8(values) => put_array!(to, values, 1),
        Array::U16(values) => put_array!(to, values, 2),
        Array::I16(values) => put_array!(to, values, 3),
        Array::U32(values) => put_array!(to, values, 4),
        Array::I32(values) => put_array!(to, values, 5),
        Array::F32(values) => put_array!(to, values, 6),
        Array::Bool(values) => {
            to.extend(7_u32.to_le_bytes());
            to.extend((values.len() as u64).to_le_bytes());
            to.extend(values.iter().map(|&v| u8::from(v)));
        }
        Array::String(texts) => {
            to.extend(8_u32.to_le_bytes());
            to.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(to, text));
        }
        Array::U64(values) => put_array!(to, values, 10),
        Array::I64(values) => put_array!(to, values, 11),
        Array::F64(values) => put_array!(to, values, 12),
    }
}
