//! A GGUF read as a Hugging Face model.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::blocks::TensorType;
use crate::config::{self, Sizes};
use crate::container::{Gguf, TensorInfo};
use crate::error::Error;
use crate::names::{Architecture, Change, Names, permute, transpose};
use crate::rope::DIVISORS;
use crate::tokenizer;
use crate::value::Value;

/// A tensor of a model, in Hugging Face's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How the file writes its numbers.
    pub kind: TensorType,
}

/// A tensor's blocks, its rows in Hugging Face's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Blocks, row by row.
    pub bytes: Vec<u8>,
    /// How numbers are written in them.
    pub kind: TensorType,
    /// The shape of the rows: `[out, in]` of a matrix.
    pub shape: Vec<usize>,
    /// Whether Hugging Face has the matrix on its other side, as GPT-2's.
    pub transposed: bool,
}

/// An open GGUF whose model is understood and whole. Tensors stay in the file until they are asked for.
#[derive(Debug)]
pub struct Model {
    gguf: Gguf,
    architecture: Architecture,
    sizes: Sizes,
    config: Json,
    /// Every tensor's names, in the file's order.
    names: Vec<Names>,
    by_hf: HashMap<String, usize>,
}

impl Model {
    /// Opens a file, and checks that every tensor of its model is there and none is unknown.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`], [`Error::Key`] or [`Error::Tensor`] naming what is wrong, missing, or not
    /// understood.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let gguf = Gguf::open(path)?;
        if let Some(parts) =
            gguf.get_as("split.count", "a count", Value::as_u64)?.filter(|&n| n > 1)
        {
            let problem = format!(
                "one of {parts} files, which are read when they are merged (llama-gguf-split)"
            );
            return Err(Error::file(path, problem));
        }
        let architecture = config::architecture(&gguf)?;
        let sizes = config::sizes(&gguf, architecture)?;
        let mut names = Vec::new();
        for tensor in gguf.tensors().iter().filter(|tensor| tensor.name != DIVISORS) {
            let wrong = |problem: String| Error::tensor(path, &tensor.name, problem);
            let found = architecture.by_gguf(&tensor.name);
            let found = found.filter(|names| names.layer.is_none_or(|layer| layer < sizes.layers));
            let found = found.ok_or_else(|| {
                wrong(format!(
                    "a {} of {} layers has no such tensor",
                    architecture.gguf(),
                    sizes.layers
                ))
            })?;
            if !tensor.kind.is_read() {
                return Err(wrong(format!(
                    "it is written as {}, which is not read here",
                    tensor.kind.name()
                )));
            }
            if found.change == Change::Transpose && tensor.shape.len() != 2 {
                return Err(wrong("it is no matrix".into()));
            }
            names.push(found);
        }
        // The first that is missing is found after no more than those that are there.
        if let Some(name) =
            architecture.needed(sizes.layers).find(|name| gguf.tensor(name).is_none())
        {
            return Err(Error::tensor(
                path,
                &name,
                "it is not there, and the model is not whole without it",
            ));
        }
        let config = config::read(&gguf, architecture, &sizes)?;
        let by_hf = names.iter().enumerate().map(|(at, names)| (names.hf.clone(), at)).collect();
        Ok(Self { gguf, architecture, sizes, config, names, by_hf })
    }

    /// The container.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// What it is.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// `config.json`.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// `tokenizer.ggml.pre`, which [`crate::Options`] takes for what is made of this model.
    pub fn pre(&self) -> Option<&str> {
        self.gguf.get("tokenizer.ggml.pre")?.as_str()
    }

    /// `tokenizer.json`, `tokenizer_config.json` and, if there is one, `chat_template.jinja`: names and contents.
    ///
    /// # Errors
    /// [`Error::Key`] naming what is missing or not understood.
    pub fn tokenizer_files(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        tokenizer::read(&self.gguf, self.sizes.vocab)
    }

    /// The tensors, in the file's order. A head that is the embedding is none of its own.
    pub fn tensors(&self) -> impl Iterator<Item = Entry> {
        self.names.iter().filter_map(|names| {
            let info = self.gguf.tensor(&names.gguf)?;
            let mut shape = info.shape.clone();
            if names.change == Change::Transpose {
                shape.reverse();
            }
            Some(Entry { name: names.hf.clone(), shape, kind: info.kind })
        })
    }

    /// A tensor's numbers, row by row, as Hugging Face has them.
    ///
    /// # Errors
    /// [`Error::Tensor`] when there is none of that name, no memory for it, or its rows are no whole heads;
    /// [`Error::Io`].
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        let (names, info) = self.find(name)?;
        let values = self.gguf.read_f32(&names.gguf)?;
        let width = if info.shape.len() < 2 { 1 } else { info.shape[1] };
        Ok(match names.change {
            // The positions that a file has are all there are.
            Change::Nothing | Change::FromFirst => values,
            Change::Queries | Change::Keys => self.rows_back(names, &values, width)?,
            Change::Transpose => transpose(&values, info.shape[0], info.shape[1]),
            Change::PlusOne => values.into_iter().map(|v| v - 1.0).collect(),
        })
    }

    /// A tensor's blocks, their rows in Hugging Face's order.
    ///
    /// # Errors
    /// As of [`Model::read_f32`].
    pub fn read_raw(&self, name: &str) -> Result<Raw, Error> {
        let (names, info) = self.find(name)?;
        let raw = |bytes, kind| {
            let transposed = names.change == Change::Transpose;
            Raw { bytes, kind, shape: info.shape.clone(), transposed }
        };
        Ok(match names.change {
            // Gemma's norms are not as the file has them.
            Change::PlusOne => {
                let values = self.read_f32(name)?;
                raw(values.iter().flat_map(|v| v.to_le_bytes()).collect(), TensorType::F32)
            }
            Change::Queries | Change::Keys => {
                let bytes = self.gguf.read_raw(&names.gguf)?;
                let rows = info.shape.first().copied().unwrap_or(1);
                raw(self.rows_back(names, &bytes, bytes.len() / rows.max(1))?, info.kind)
            }
            _ => raw(self.gguf.read_raw(&names.gguf)?, info.kind),
        })
    }

    /// How the numbers of [`Model::read_raw`] are written; none of a matrix that Hugging Face has on its other side.
    pub fn raw_kind(&self, name: &str) -> Option<TensorType> {
        let (names, info) = self.find(name).ok()?;
        match names.change {
            Change::Transpose => None,
            Change::PlusOne => Some(TensorType::F32),
            _ => Some(info.kind),
        }
    }

    fn find(&self, name: &str) -> Result<(&Names, &TensorInfo), Error> {
        let found = self.by_hf.get(name).map(|&at| &self.names[at]);
        let found = found.and_then(|names| Some((names, self.gguf.tensor(&names.gguf)?)));
        found
            .ok_or_else(|| Error::tensor(self.gguf.path(), name, "the model has none of that name"))
    }

    fn rows_back<T: Copy>(
        &self,
        names: &Names,
        values: &[T],
        width: usize,
    ) -> Result<Vec<T>, Error> {
        let heads =
            if names.change == Change::Queries { self.sizes.heads } else { self.sizes.kv_heads };
        let odd = || Error::tensor(self.gguf.path(), &names.gguf, "its rows are no whole heads");
        permute(values, heads, width, true).ok_or_else(odd)
    }
}
