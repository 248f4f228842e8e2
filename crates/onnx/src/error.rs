//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// Errors of ONNX files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model is larger than one file may be.
    #[error(
        "an ONNX file of {bytes} bytes is not possible: a message of protocol buffers ends at {} bytes",
        crate::MOST_BYTES
    )]
    TooLarge {
        /// Bytes that it would take.
        bytes: usize,
    },
    /// A file is no ONNX model.
    #[error("{}: not an ONNX model: {problem}", path.display())]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
