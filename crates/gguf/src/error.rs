//! What can be wrong with a model's files.

use std::io;
use std::path::Path;

/// A file that cannot be read, is no GGUF, or holds a model that is not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses to read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file as a whole.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of the metadata.
    #[error("{path}: the key {key:?}: {problem}")]
    Key {
        /// The file.
        path: String,
        /// The key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A tensor.
    #[error("{path}: the tensor {tensor:?}: {problem}")]
    Tensor {
        /// The file.
        path: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of `config.json`.
    #[error("config.json: {key}: {problem}")]
    Config {
        /// The key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A part of `tokenizer.json`.
    #[error("tokenizer.json: {part}: {problem}")]
    Tokenizer {
        /// The part.
        part: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.display().to_string(), problem: problem.into() }
    }

    pub(crate) fn key(path: &Path, key: &str, problem: impl Into<String>) -> Self {
        let path = path.display().to_string();
        Self::Key { path, key: key.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        let path = path.display().to_string();
        Self::Tensor { path, tensor: tensor.to_owned(), problem: problem.into() }
    }

    pub(crate) fn config(key: &str, problem: impl Into<String>) -> Self {
        Self::Config { key: key.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tokenizer(part: &str, problem: impl Into<String>) -> Self {
        Self::Tokenizer { part: part.to_owned(), problem: problem.into() }
    }
}
