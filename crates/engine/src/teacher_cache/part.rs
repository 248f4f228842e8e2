//! A file of a cache: answers to some documents.
//!
//! Tensors: `documents` [n, 16], the hashes; `ends` \[n], behind the last row of each; `checksums` \[n], CRC-32 of each
//! document's rows and scales as they are stored; `rows` [rows, width]; in bytes `scales` [rows, blocks] too. The metadata say,
//! under one key and with a checksum of their own, whose answers they are.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use safetensors::serialize;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::binding::Identity;
use super::difference::Difference;
use super::rows::RowFormat;
use super::shelf::Shelf;
use crate::error::Error;
use crate::files::bad;
use crate::models::{Document, DocumentHash};
use crate::sealed::{self, hex};
use crate::tensor_file::TensorFile;

/// The key in the file's metadata.
const KEY: &str = "distil-gpu";
/// Bytes of a document's hash.
const HASH: usize = 16;

/// What a file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    /// Of this program.
    version: String,
    identity: Identity,
    /// How far what is stored is from what the teacher said.
    difference: Difference,
    /// The most that it might have been.
    limit: f64,
    /// Checksum of the documents, their ends and their checksums.
    index: String,
}

/// What goes into a file.
#[derive(Debug)]
pub struct PartContent<'a> {
    /// Whose answers these are.
    pub identity: &'a Identity,
    /// To what.
    pub documents: &'a [Document],
    /// Bytes of the rows and of their scales; see [`RowFormat::encode`].
    pub stored: &'a [Vec<u8>; 2],
    /// How far that is from what the teacher said.
    pub difference: Difference,
    /// The most that it might have been.
    pub limit: f64,
}

/// Types and row lengths of a format's tensors.
fn tensors(format: RowFormat, width: usize) -> [(&'static str, Dtype, usize); 2] {
    let dtype = match format {
        RowFormat::F32 => Dtype::F32,
        RowFormat::F16 => Dtype::F16,
        RowFormat::Int8 => Dtype::I8,
    };
    [("rows", dtype, width), ("scales", Dtype::F16, format.scales(width))]
}

fn checksum(parts: [&[u8]; 2]) -> u32 {
    let mut digest = crc32fast::Hasher::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

impl PartContent<'_> {
    /// The bytes of the file; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Model`] when there is too much for one file.
    pub fn bytes(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let Self { identity, documents, stored, difference, limit } = self;
        let shapes = tensors(identity.numbers, identity.width);
        let rows: usize = documents.iter().map(|document| document.rows).sum();
        let row_bytes = stored.each_ref().map(|stored| stored.len() / rows.max(1));
        let (mut ends, mut checksums, mut end) = (Vec::new(), Vec::new(), 0);
        for document in *documents {
            let own = [0, 1].map(|i: usize| {
                &stored[i][end * row_bytes[i]..(end + document.rows) * row_bytes[i]]
            });
            end += document.rows;
            let place =
                u32::try_from(end).map_err(|_| bad(path, "holds more rows than a file may"))?;
            ends.extend(place.to_le_bytes());
            checksums.extend(checksum(own).to_le_bytes());
        }
        let hashes: Vec<u8> = documents.iter().flat_map(|document| document.hash.0).collect();
        let index = [&hashes[..], &ends, &checksums].concat();
        let header = Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            identity: (*identity).clone(),
            difference: difference.clone(),
            limit: *limit,
            index: hex(crc32fast::hash(&index)),
        };
        let count = documents.len();
        let mut views = vec![
            ("documents", Dtype::U8, vec![count, HASH], &hashes[..]),
            ("ends", Dtype::U32, vec![count], &ends),
            ("checksums", Dtype::U32, vec![count], &checksums),
        ];
        for ((name, dtype, width), stored) in shapes.into_iter().zip(stored.iter()) {
            if width > 0 {
                views.push((name, dtype, vec![rows, width], stored));
            }
        }
        let views = views.into_iter().map(|(name, dtype, shape, bytes)| {
            TensorView::new(dtype, shape, bytes).map(|view| (name, view))
        });
        let metadata = HashMap::from([(KEY.to_owned(), sealed::to_text(&header))]);
        let views = views.collect::<Result<Vec<_>, _>>();
        let bytes = views.and_then(|views| serialize(views, Some(metadata)));
        bytes.map_err(|error| bad(path, error.to_string()))
    }
}

/// An open file of a cache, of which all but the answers was read and found whole.
#[derive(Debug)]
pub struct Part {
    path: std::path::PathBuf,
    file: TensorFile,
    header: Header,
    documents: Vec<DocumentHash>,
    ends: Vec<u32>,
    checksums: Vec<u32>,
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

impl Part {
    /// Opens a file of a folder.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file when it is damaged, or [`Error::Io`].
    pub fn open(shelf: &Shelf, name: &str) -> Result<Self, Error> {
        let path = shelf.path(name);
        let damaged = |problem: &str| damaged(&path, problem);
        let file = shelf.file(name).map_err(|error| match error {
            Error::Model { problem, .. } => damaged(&problem),
            other => other,
        })?;
        let text =
            file.metadata(KEY).ok_or_else(|| damaged("it does not say whose answers it holds"))?;
        let header: Header = sealed::from_text(text).map_err(|problem| damaged(&problem))?;
        let count = file.shape("ends").and_then(|shape| shape.first().copied()).unwrap_or(0);
        let read = |name: &str, dtype, shape: &[usize]| {
            file.entries(name, (dtype, shape), 0..count).map_err(|error| match error {
                Error::Model { problem, .. } => damaged(&problem),
                other => other,
            })
        };
        let hashes = read("documents", Dtype::U8, &[count, HASH])?;
        let ends = read("ends", Dtype::U32, &[count])?;
        let checksums = read("checksums", Dtype::U32, &[count])?;
        if hex(crc32fast::hash(&[&hashes[..], &ends, &checksums].concat())) != header.index {
            return Err(damaged("the checksum of its documents is another"));
        }
        let documents = hashes.as_chunks().0.iter().map(|hash| DocumentHash(*hash)).collect();
        let (ends, checksums) = (words(&ends), words(&checksums));
        let part = Self { path: path.clone(), file, header, documents, ends, checksums };
        let rows = part.ends.last().map_or(0, |end| *end as usize);
        for (name, _, width) in tensors(part.identity().numbers, part.identity().width) {
            if width > 0 && part.file.shape(name) != Some(&[rows, width]) {
                return Err(damaged(&format!("`{name}` is not [{rows}, {width}]")));
            }
        }
        Ok(part)
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Whose answers these are.
    pub fn identity(&self) -> &Identity {
        &self.header.identity
    }

    /// How far what is stored is from what the teacher said, when it was stored.
    pub fn difference(&self) -> &Difference {
        &self.header.difference
    }

    /// The most that it might have been.
    pub fn limit(&self) -> f64 {
        self.header.limit
    }

    /// What is answered.
    pub fn documents(&self) -> &[DocumentHash] {
        &self.documents
    }

    /// The rows of a document.
    pub fn rows(&self, document: usize) -> Range<usize> {
        let start = document.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[document] as usize
    }

    /// Reads the answer to a document [rows, width].
    ///
    /// # Errors
    /// [`Error::Model`] naming the file when the answer is damaged, or [`Error::Io`].
    ///
    /// # Panics
    /// When there is not as much room as there are numbers.
    pub fn read(&self, document: usize, out: &mut [f32]) -> Result<(), Error> {
        let Identity { numbers, width, .. } = *self.identity();
        let [bytes, scales] = self.stored(document)?;
        numbers.decode([&bytes, &scales], width, out);
        Ok(())
    }

    /// The bytes of a document's rows and of their scales.
    fn stored(&self, document: usize) -> Result<[Vec<u8>; 2], Error> {
        let Identity { numbers, width, .. } = *self.identity();
        let (range, rows) = (self.rows(document), self.ends.last().map_or(0, |end| *end as usize));
        let part = |(name, dtype, width): (&str, Dtype, usize)| match width {
            0 => Ok(Vec::new()),
            _ => self.file.entries(name, (dtype, &[rows, width]), range.clone()),
        };
        let [bytes, scales] = tensors(numbers, width).map(part);
        let (bytes, scales) = (bytes?, scales?);
        if checksum([&bytes, &scales]) != self.checksums[document] {
            return Err(damaged(&self.path, "the checksum of an answer is another"));
        }
        Ok([bytes, scales])
    }

    /// Checks every answer.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check(&self) -> Result<(), Error> {
        (0..self.documents.len()).try_for_each(|document| self.stored(document).map(drop))
    }
}

fn damaged(path: &Path, problem: &str) -> Error {
    bad(
        path,
        format!(
            "this file of a teacher's answers is damaged ({problem}): `distil-gpu label` writes it anew"
        ),
    )
}
