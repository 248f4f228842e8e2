//! A safetensors file of floats, read tensor by tensor; of matrices in bytes with the scales of their rows too.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::bytes::{self, SCALE};
use crate::error::Error;
use crate::files::{bad, io_error, pointer_problem};
use crate::floats::floats;

/// Bytes in front of the header: its length.
const LENGTH_BYTES: u64 = 8;
/// The longest header that is read; of 10,000 tensors it takes 1 MB.
const MOST_HEADER_BYTES: u64 = 32 << 20;
/// The most tensors of a file.
const MOST_TENSORS: usize = 100_000;
/// How much of a tensor is read at once: whole values of every dtype.
const PIECE_BYTES: usize = 1 << 20;

/// An open safetensors file, its header checked against its length.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the data begin.
    data_at: u64,
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Model`] when it is not a whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(io_error(path))?;
        let file_len = file.metadata().map_err(io_error(path))?.len();
        let mut beginning = Vec::new();
        (&file).take(64).read_to_end(&mut beginning).map_err(io_error(path))?;
        if let Some(problem) = pointer_problem(&beginning) {
            return Err(bad(path, problem));
        }
        file.rewind().map_err(io_error(path))?;
        let (header, data_at) = read_header(&mut file, file_len)
            .map_err(|problem| bad(path, format!("not a whole safetensors file ({problem})")))?;
        Ok(Self { path: path.to_owned(), file, header, data_at })
    }

    /// Names of its tensors, but for the scales of those in bytes.
    pub fn names(&self) -> Vec<String> {
        let is_scale =
            |name: &str| name.strip_suffix(SCALE).is_some_and(|of| self.scaled(of).is_some());
        self.header.tensors().into_keys().filter(|name| !is_scale(name)).collect()
    }

    /// A matrix in bytes and the scales of its rows, where a tensor is one and there are such.
    fn scaled(&self, name: &str) -> Option<[&TensorInfo; 2]> {
        let bytes = self.header.info(name).filter(|info| info.dtype == Dtype::I8)?;
        let scales = self.header.info(&format!("{name}{SCALE}"))?;
        let fits = bytes.shape.len() == 2 && scales.shape == bytes.shape[..1];
        (fits && scales.dtype == Dtype::F32).then_some([bytes, scales])
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.data_at + self.header.data_len() as u64
    }

    /// An entry of its metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| &*info.shape)
    }

    /// The element type of a tensor, if there is one of that name.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.header.info(name).map(|info| info.dtype)
    }

    /// The values of a tensor that must be floats, finite and of this shape.
    ///
    /// # Errors
    /// [`Error::Model`] naming file, tensor and what is wrong, or [`Error::Io`].
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let Some(info) = self.header.info(name) else {
            return Err(bad(&self.path, format!("it has no tensor {name}")));
        };
        if let Some([bytes, scales]) = self.scaled(name).filter(|_| info.shape == shape) {
            return self.dequantised(name, bytes, scales);
        }
        if floats(info.dtype, &[]).is_none() || info.shape != shape {
            let (dtype, found) = (info.dtype, &info.shape);
            let problem = match is_quantised(dtype) {
                true => format!(
                    "{name} is quantised ({dtype:?}), and weights are read as F32, F16, BF16 or F64: give the model \
                     that it was made of, or dequantise it with the tool that made it"
                ),
                false => format!("{name} is {dtype:?} {found:?}, and must be F32 {shape:?}"),
            };
            return Err(bad(&self.path, problem));
        }
        let values = self.floats(info).map_err(io_error(&self.path))?;
        self.finite(name, values)
    }

    /// Bytes of a tensor that must be of this type and shape: of as many of its first dimension's entries, from one on.
    ///
    /// # Errors
    /// [`Error::Model`] naming file, tensor and what is wrong, or [`Error::Io`].
    ///
    /// # Panics
    /// When the entries are not among the tensor's.
    pub fn entries(
        &self,
        name: &str,
        (dtype, shape): (Dtype, &[usize]),
        entries: Range<usize>,
    ) -> Result<Vec<u8>, Error> {
        let Some(info) = self.header.info(name) else {
            return Err(bad(&self.path, format!("it has no tensor {name}")));
        };
        if info.dtype != dtype || info.shape != shape {
            let (found, is) = (info.dtype, &info.shape);
            return Err(bad(
                &self.path,
                format!("{name} is {found:?} {is:?}, and must be {dtype:?} {shape:?}"),
            ));
        }
        let (start, end) = info.data_offsets;
        let bytes = (end - start) / shape[0].max(1);
        assert!(entries.end <= shape[0], "{entries:?} of {shape:?}");
        let mut raw = vec![0; entries.len() * bytes];
        let mut file = &self.file;
        let at = self.data_at + (start + entries.start * bytes) as u64;
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut raw));
        read.map_err(io_error(&self.path))?;
        Ok(raw)
    }

    fn finite(&self, name: &str, values: Vec<f32>) -> Result<Vec<f32>, Error> {
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                let problem = format!("{name} holds {} at element {at}", values[at]);
                Err(bad(&self.path, problem))
            }
            None => Ok(values),
        }
    }

    /// The numbers that a matrix in bytes stands for.
    fn dequantised(
        &self,
        name: &str,
        info: &TensorInfo,
        scales: &TensorInfo,
    ) -> Result<Vec<f32>, Error> {
        let scales = self.floats(scales).map_err(io_error(&self.path))?;
        let (start, end) = info.data_offsets;
        let mut raw = vec![0; end - start];
        let mut file = &self.file;
        let read = file
            .seek(SeekFrom::Start(self.data_at + start as u64))
            .and_then(|_| file.read_exact(&mut raw));
        read.map_err(io_error(&self.path))?;
        let values = bytes::dequantise(bytemuck::cast_slice(&raw), &scales, info.shape[1]);
        self.finite(name, values)
    }

    /// A tensor's values, read in pieces so that its bytes never lie beside them.
    fn floats(&self, info: &TensorInfo) -> io::Result<Vec<f32>> {
        let (start, end) = info.data_offsets;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_at + start as u64))?;
        let mut values = Vec::with_capacity(info.shape.iter().product());
        let mut piece = vec![0; PIECE_BYTES.min(end - start)];
        for at in (start..end).step_by(PIECE_BYTES) {
            let piece = &mut piece[..PIECE_BYTES.min(end - at)];
            file.read_exact(piece)?;
            values.extend(floats(info.dtype, piece).expect("the dtype was looked at"));
        }
        Ok(values)
    }
}

/// Whether weights of this type are numbers of a few bits, to be scaled.
fn is_quantised(dtype: Dtype) -> bool {
    // Types of floats of less than 16 bits are many, and become more.
    matches!(dtype, Dtype::I8 | Dtype::U8) || (dtype.bitsize() <= 8 && dtype != Dtype::BOOL)
}

/// A file's header, and where its data begin. Parsing it checks that its tensors follow one another without
/// gaps and are as long as their shapes say; so once the last ends where the file does, no size in it can exceed
/// the file's.
fn read_header(file: &mut File, file_len: u64) -> Result<(Metadata, u64), String> {
    if file_len < LENGTH_BYTES {
        return Err(format!("a file of {file_len} bytes"));
    }
    let mut bytes = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    let header_len = u64::from_le_bytes(bytes);
    let data_at = header_len.saturating_add(LENGTH_BYTES);
    if header_len > MOST_HEADER_BYTES || data_at > file_len {
        return Err(format!("a header of {header_len} bytes in a file of {file_len}"));
    }
    let mut json = vec![0; header_len as usize];
    file.read_exact(&mut json).map_err(|error| error.to_string())?;
    let header: Metadata = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let tensors = header.tensors().len();
    if tensors > MOST_TENSORS {
        return Err(format!("{tensors} tensors, and {MOST_TENSORS} are the most"));
    }
    let end = data_at.saturating_add(header.data_len() as u64);
    if end != file_len {
        return Err(format!("its tensors end at byte {end} of {file_len}"));
    }
    Ok((header, data_at))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use safetensors::tensor::TensorView;

    use super::*;
    use crate::files::save_tensors;

    fn with_file<T>(bytes: &[u8], use_it: impl FnOnce(Result<TensorFile, Error>) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        fs::write(&path, bytes).unwrap();
        use_it(TensorFile::open(&path))
    }

    fn one(dtype: Dtype, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape.to_vec(), data).unwrap();
        safetensors::serialize([("a", view)], None).unwrap()
    }

    /// What is said of the tensor `a` [2] of a file.
    fn told(bytes: &[u8]) -> String {
        let result = with_file(bytes, |file| file.and_then(|file| file.tensor("a", &[2])));
        let message = result.unwrap_err().to_string();
        message.split_once("x.safetensors: ").unwrap().1.to_owned()
    }

    #[test]
    fn a_tensor_of_several_pieces_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let values: Vec<f32> = (0..PIECE_BYTES / 2 + 3).map(|i| i as f32).collect();
        let shape = vec![values.len()];
        let tensors = [("a", vec![1], vec![7.0]), ("b", shape.clone(), values.clone())];
        save_tensors(&path, &tensors, HashMap::new()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.tensor("b", &shape).unwrap(), values);
        assert_eq!(file.tensor("a", &[1]).unwrap(), [7.0]);
    }

    #[test]
    fn every_float_dtype_becomes_f32() {
        let wide: Vec<u8> = [1.5_f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        for (dtype, bytes) in [
            (Dtype::F32, &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0][..]),
            (Dtype::F64, &wide),
            (Dtype::F16, &[0x00, 0x3e, 0x00, 0xc0]),
            (Dtype::BF16, &[0xc0, 0x3f, 0x00, 0xc0]),
        ] {
            let values = with_file(&one(dtype, &[2], bytes), |file| file?.tensor("a", &[2]));
            assert_eq!(values.unwrap(), [1.5, -2.0], "{dtype}");
        }
        let scalar = one(Dtype::F32, &[], &4.0_f32.to_le_bytes());
        assert_eq!(with_file(&scalar, |file| file?.tensor("a", &[])).unwrap(), [4.0]);
        let empty = one(Dtype::F32, &[0, 3], &[]);
        assert!(with_file(&empty, |file| file?.tensor("a", &[0, 3])).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_tensor_is_told() {
        assert_eq!(told(&one(Dtype::I64, &[2], &[0; 16])), "a is I64 [2], and must be F32 [2]");
        assert_eq!(told(&one(Dtype::F32, &[3], &[0; 12])), "a is F32 [3], and must be F32 [2]");
        assert_eq!(told(&raw("{}", 0)), "it has no tensor a");
        for (dtype, bytes, value) in [
            (Dtype::F32, vec![0, 0, 0, 0, 0, 0, 0xc0, 0x7f], "NaN"),
            (Dtype::F16, vec![0, 0, 0x00, 0xfc], "-inf"),
            (Dtype::F64, [0.0, 1e300_f64].iter().flat_map(|v| v.to_le_bytes()).collect(), "inf"),
        ] {
            assert_eq!(told(&one(dtype, &[2], &bytes)), format!("a holds {value} at element 1"));
        }
    }

    /// A file with this header and so many bytes of data.
    fn raw(header: &str, data_len: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data_len, 0);
        bytes
    }

    #[test]
    fn files_that_lie_are_refused() {
        let whole = one(Dtype::F32, &[2], &[0; 8]);
        let tensor = |dtype: &str, shape: &str, end: usize| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
        };
        let both = |start: usize, end: usize| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},
                    "b":{{"dtype":"F32","shape":[2],"data_offsets":[{start},{end}]}}}}"#
            )
        };
        let most = usize::MAX;
        let huge = [&(1_u64 << 63).to_le_bytes()[..], b"{}"].concat();
        let longest = [&[0xff; 8][..], b"{}"].concat();
        let overflow = tensor("F32", "[4294967296,4294967296,4294967296]", 8);
        let vast = 1_152_921_504_606_846_975;
        let cases: [(Vec<u8>, &str); 14] = [
            (Vec::new(), "a file of 0 bytes"),
            (whole[..whole.len() - 1].to_vec(), "its tensors end at byte"),
            ([&whole[..], &[0]].concat(), "its tensors end at byte"),
            (whole[..40].to_vec(), "bytes in a file of 40"),
            (huge, "a header of 9223372036854775808 bytes in a file of 10"),
            (longest, "a header of 18446744073709551615 bytes in a file of 10"),
            (raw("[]", 0), "invalid type"),
            (raw(&both(4, 12), 12), "invalid offset for tensor `b`"),
            (raw(&both(12, 20), 20), "invalid offset for tensor `b`"),
            (raw(&tensor("F32", "[3]", 8), 8), "invalid shape, data type, or offset"),
            (raw(&tensor("F99", "[2]", 8), 8), "unknown variant `F99`"),
            (raw(&overflow, 8), "overflow"),
            (raw(&tensor("U8", &format!("[{most}]"), most), 8), "overflow"),
            (
                raw(&tensor("U8", &format!("[{vast}]"), vast), 8),
                "its tensors end at byte 1152921504606847",
            ),
        ];
        for (bytes, problem) in cases {
            let message = told(&bytes);
            let start = "not a whole safetensors file (";
            assert!(message.starts_with(start) && message.contains(problem), "{message}");
        }
        for cut in 0..whole.len() {
            assert!(told(&whole[..cut]).starts_with("not a whole safetensors file ("), "{cut}");
        }
    }
}
