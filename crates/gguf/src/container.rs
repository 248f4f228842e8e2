//! The container: a GGUF's metadata and tensors.
//!
//! `GGUF`, a version (2 or 3), how many tensors and keys there are; the keys with their values; each tensor's name,
//! dimensions (the fastest first), type and offset; then, aligned, the tensors' blocks. All numbers are little-endian.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::blocks::{TensorType, dequantise};
use crate::error::Error;
use crate::value::{Array, Value};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// What offsets are multiples of where a file names nothing else.
pub(crate) const ALIGNMENT: u64 = 32;
/// The largest alignment that is believed.
const MOST_ALIGNMENT: u64 = 1 << 20;
/// The largest header that is read; vocabularies of 262,144 tokens take 15 MB.
const MOST_HEADER_BYTES: u64 = 1 << 29;
/// The longest name of a key or tensor.
const MOST_NAME_BYTES: u64 = 1 << 12;
/// The most dimensions of a tensor.
const MOST_DIMENSIONS: u32 = 4;
/// The fewest bytes that a key with its value, and a tensor's description, take.
const LEAST_KEY_BYTES: u64 = 8 + 4 + 1;
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;
/// About how much of a tensor is decoded at once.
const PIECE_BYTES: usize = 1 << 20;

/// What a file says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its shape as Hugging Face has it: the slowest dimension first, `[rows, columns]` of a matrix.
    pub shape: Vec<usize>,
    /// How its numbers are written.
    pub kind: TensorType,
    /// Where its blocks begin in the file.
    at: u64,
    /// How many bytes its blocks take.
    pub bytes: usize,
}

impl TensorInfo {
    /// How many numbers it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An open GGUF, its header checked against its length. Tensors stay in the file until they are asked for.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    metadata: Vec<(String, Value)>,
    keys: HashMap<String, usize>,
    tensors: Vec<TensorInfo>,
    names: HashMap<String, usize>,
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`], [`Error::Key`] or [`Error::Tensor`] when it is not a whole GGUF of version 2 or 3.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(path))?;
        let file_len = file.metadata().map_err(Error::io(path))?.len();
        let mut header = Header {
            path,
            left: file_len.min(MOST_HEADER_BYTES),
            read: 0,
            file: BufReader::new(&file),
        };
        let (tensor_count, key_count) = header.begin()?;
        let metadata = header.metadata(key_count)?;
        let mut keys = HashMap::with_capacity(metadata.len());
        for (at, (key, _)) in metadata.iter().enumerate() {
            if keys.insert(key.clone(), at).is_some() {
                return Err(Error::key(path, key, "it is there twice"));
            }
        }
        let alignment = alignment(path, keys.get("general.alignment").map(|&at| &metadata[at].1))?;
        let mut tensors = header.tensors(tensor_count, alignment)?;
        let data_at = header.read.next_multiple_of(alignment);
        place(path, &mut tensors, data_at, file_len)?;
        let mut names = HashMap::with_capacity(tensors.len());
        for (at, tensor) in tensors.iter().enumerate() {
            if names.insert(tensor.name.clone(), at).is_some() {
                return Err(Error::tensor(path, &tensor.name, "it is there twice"));
            }
        }
        drop(header);
        Ok(Self { path: path.to_owned(), file, metadata, keys, tensors, names })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keys with their values, in the file's order.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// A key's value, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|&at| &self.metadata[at].1)
    }

    /// A key's value as something, if it is there.
    ///
    /// # Errors
    /// [`Error::Key`] when it is of another type.
    pub fn get_as<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong =
            || Error::key(&self.path, key, format!("it is {}, and must be {what}", value.kind()));
        read(value).map(Some).ok_or_else(wrong)
    }

    /// The tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor by its name, if it is there.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.names.get(name).map(|&at| &self.tensors[at])
    }

    /// A tensor's blocks as they lie in the file.
    ///
    /// # Errors
    /// [`Error::Tensor`] when there is none of that name or no memory for it; [`Error::Io`].
    pub fn read_raw(&self, name: &str) -> Result<Vec<u8>, Error> {
        let info = self.known(name)?;
        let mut bytes = self.room(info, info.bytes)?;
        bytes.resize(info.bytes, 0);
        read_at(&self.file, &mut bytes, info.at).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    /// A tensor's numbers, row by row.
    ///
    /// # Errors
    /// [`Error::Tensor`] when there is none of that name, no memory for it, or its type is none that is dequantised
    /// here; [`Error::Io`].
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        let info = self.known(name)?;
        let mut values = self.room(info, info.elements())?;
        let block = info.kind.block_bytes();
        let mut piece = vec![0; (PIECE_BYTES / block * block).min(info.bytes)];
        let mut done = 0;
        while done < info.bytes {
            let size = piece.len().min(info.bytes - done);
            let piece = &mut piece[..size];
            read_at(&self.file, piece, info.at + done as u64).map_err(Error::io(&self.path))?;
            if !dequantise(info.kind, piece, &mut values) {
                let kind = info.kind.name();
                let problem = format!("it is written as {kind}, which is not read here");
                return Err(Error::tensor(&self.path, name, problem));
            }
            done += size;
        }
        Ok(values)
    }

    fn known(&self, name: &str) -> Result<&TensorInfo, Error> {
        self.tensor(name).ok_or_else(|| Error::tensor(&self.path, name, "it is not there"))
    }

    fn room<T>(&self, info: &TensorInfo, length: usize) -> Result<Vec<T>, Error> {
        let mut room = Vec::new();
        let full =
            |_| Error::tensor(&self.path, &info.name, format!("no memory for {length} values"));
        room.try_reserve_exact(length).map_err(full)?;
        Ok(room)
    }
}

/// Reads at a place of the file without moving anything that another reader goes by.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

/// Reads at a place of the file. Every read names its place, so the cursor that this moves matters to nobody.
#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        at += read as u64;
    }
    Ok(())
}

fn alignment(path: &Path, value: Option<&Value>) -> Result<u64, Error> {
    let Some(value) = value else { return Ok(ALIGNMENT) };
    match value.as_u64() {
        Some(bytes) if bytes.is_power_of_two() && bytes <= MOST_ALIGNMENT => Ok(bytes),
        _ => Err(Error::key(path, "general.alignment", "it must be a power of two")),
    }
}

/// Turns offsets into places of the file, and holds them to its length and to one another.
fn place(
    path: &Path,
    tensors: &mut [TensorInfo],
    data_at: u64,
    file_len: u64,
) -> Result<(), Error> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&at| tensors[at].at);
    let mut end_before = 0;
    for at in order {
        let tensor = &mut tensors[at];
        let offset = tensor.at;
        let end = offset.checked_add(tensor.bytes as u64);
        let whole = end.and_then(|end| end.checked_add(data_at)).is_some_and(|end| end <= file_len);
        let Some(end) = end.filter(|_| whole) else {
            let problem =
                format!("its {} bytes at offset {offset} are beyond the file's end", tensor.bytes);
            return Err(Error::tensor(path, &tensor.name, problem));
        };
        if offset < end_before {
            return Err(Error::tensor(path, &tensor.name, "it lies in another tensor's bytes"));
        }
        end_before = end;
        tensor.at = data_at + offset;
    }
    Ok(())
}

/// A header while it is read.
struct Header<'a> {
    path: &'a Path,
    file: BufReader<&'a File>,
    /// Bytes that may still be read; nothing is believed to be longer.
    left: u64,
    read: u64,
}

impl Header<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.take(N as u64)?;
        self.file.read_exact(&mut bytes).map_err(Error::io(self.path))?;
        Ok(bytes)
    }

    /// Counts bytes that are about to be read.
    fn take(&mut self, bytes: u64) -> Result<(), Error> {
        let cut =
            || Error::file(self.path, "its header ends in the middle, or is longer than 512 MiB");
        self.left = self.left.checked_sub(bytes).ok_or_else(cut)?;
        self.read += bytes;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn string(&mut self, most: u64, what: &str) -> Result<String, Error> {
        let length = self.u64()?;
        if length > most.min(self.left) {
            return Err(Error::file(self.path, format!("{what} of {length} bytes")));
        }
        self.take(length)?;
        let mut bytes = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut bytes).map_err(Error::io(self.path))?;
        let short = bytes.len() as u64 != length;
        let text = String::from_utf8(bytes).ok().filter(|_| !short);
        text.ok_or_else(|| Error::file(self.path, format!("{what} that is no UTF-8")))
    }

    /// Magic and version; how many tensors and keys there are.
    fn begin(&mut self) -> Result<(u64, u64), Error> {
        if self.left < 4 || &self.bytes()? != MAGIC {
            return Err(Error::file(
                self.path,
                "it is no GGUF: it does not begin with those letters",
            ));
        }
        let version = self.u32()?;
        if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
            return Err(Error::file(
                self.path,
                "a GGUF for big-endian machines, which is not read here",
            ));
        }
        if version != 2 && version != 3 {
            return Err(Error::file(
                self.path,
                format!("GGUF of version {version}; 2 and 3 are read"),
            ));
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        for (count, least, what) in
            [(tensors, LEAST_TENSOR_BYTES, "tensors"), (keys, LEAST_KEY_BYTES, "keys")]
        {
            if count > self.left / least {
                return Err(Error::file(self.path, format!("{count} {what} do not fit into it")));
            }
        }
        Ok((tensors, keys))
    }

    fn metadata(&mut self, count: u64) -> Result<Vec<(String, Value)>, Error> {
        let mut metadata = Vec::new();
        for _ in 0..count {
            let key = self.string(MOST_NAME_BYTES, "a key")?;
            let kind = self.u32()?;
            let value = self.value(&key, kind)?;
            metadata.push((key, value));
        }
        Ok(metadata)
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value, Error> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => Value::Bool(self.bytes::<1>()? != [0]),
            8 => Value::String(self.string(u64::MAX, "a text")?),
            9 => Value::Array(self.array(key)?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            other => {
                return Err(Error::key(
                    self.path,
                    key,
                    format!("a value of type {other}, which is unknown"),
                ));
            }
        })
    }

    fn array(&mut self, key: &str) -> Result<Array, Error> {
        let kind = self.u32()?;
        let length = self.u64()?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => {
                return Err(Error::key(
                    self.path,
                    key,
                    "an array of arrays, which is not read here",
                ));
            }
            other => {
                return Err(Error::key(
                    self.path,
                    key,
                    format!("an array of type {other}, which is unknown"),
                ));
            }
        };
        if length > self.left / least {
            return Err(Error::key(
                self.path,
                key,
                format!("an array of {length} values, which do not fit into the file"),
            ));
        }
        Ok(match kind {
            0 => Array::U8(self.many(length, u8::from_le_bytes)?),
            1 => Array::I8(self.many(length, i8::from_le_bytes)?),
            2 => Array::U16(self.many(length, u16::from_le_bytes)?),
            3 => Array::I16(self.many(length, i16::from_le_bytes)?),
            4 => Array::U32(self.many(length, u32::from_le_bytes)?),
            5 => Array::I32(self.many(length, i32::from_le_bytes)?),
            6 => Array::F32(self.many(length, f32::from_le_bytes)?),
            7 => Array::Bool(self.many(length, |[byte]| byte != 0)?),
            8 => {
                let mut texts = Vec::new();
                for _ in 0..length {
                    texts.push(self.string(u64::MAX, "a text")?);
                }
                Array::String(texts)
            }
            10 => Array::U64(self.many(length, u64::from_le_bytes)?),
            11 => Array::I64(self.many(length, i64::from_le_bytes)?),
            _ => Array::F64(self.many(length, f64::from_le_bytes)?),
        })
    }

    fn many<T, const N: usize>(
        &mut self,
        length: u64,
        of: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut values = Vec::new();
        for _ in 0..length {
            values.push(of(self.bytes()?));
        }
        Ok(values)
    }

    /// What the file says of its tensors, `at` being the offset that it names.
    fn tensors(&mut self, count: u64, alignment: u64) -> Result<Vec<TensorInfo>, Error> {
        let mut tensors = Vec::new();
        for _ in 0..count {
            let name = self.string(MOST_NAME_BYTES, "a tensor's name")?;
            let wrong = |problem: String| Error::tensor(self.path, &name, problem);
            let dimensions = self.u32()?;
            if dimensions > MOST_DIMENSIONS {
                return Err(wrong(format!(
                    "{dimensions} dimensions, and {MOST_DIMENSIONS} are the most"
                )));
            }
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                shape.push(usize::try_from(self.u64()?).unwrap_or(usize::MAX));
            }
            shape.reverse();
            let (id, at) = (self.u32()?, self.u64()?);
            let kind = TensorType::from_id(id);
            let kind =
                kind.ok_or_else(|| wrong(format!("it is of type {id}, which is unknown")))?;
            let bytes = kind.bytes(&shape).ok_or_else(|| {
                wrong(format!(
                    "a shape of {shape:?}, which blocks of {} cannot have",
                    kind.block_len()
                ))
            })?;
            if at % alignment != 0 {
                return Err(wrong(format!("its offset {at} is no multiple of {alignment}")));
            }
            tensors.push(TensorInfo { name, shape, kind, at, bytes });
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests;
