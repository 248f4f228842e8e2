//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of exporting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] distil_gpu_engine::Error),
    /// An ONNX file that is not possible.
    #[error("{file}: {source}")]
    Onnx {
        /// The file.
        file: &'static str,
        /// Why.
        source: distil_gpu_onnx::Error,
    },
    /// Something is where a folder is to be written.
    #[error("{} is there already: give another name, or --force", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Something is there that is no exported folder.
    #[error(
        "{} holds {found}, which no export wrote: nothing is replaced there; give another name", path.display()
    )]
    NotOurs {
        /// Where.
        path: PathBuf,
        /// What does not belong to an exported folder.
        found: String,
    },
    /// A file or folder cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is exported cannot be measured.
    #[error("{} cannot be measured: {problem}", path.display())]
    Unmeasured {
        /// The model.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It was told to stop, and left nothing.
    #[error("stopped; nothing is written")]
    Stopped,
    /// The model cannot become this.
    #[error("{0}")]
    Unfit(String),
}

/// What becomes of an error of a file or folder.
pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path: path.clone(), source }
}

/// Goes on unless it is told to stop.
pub(crate) fn unless(stop: &dyn Fn() -> bool) -> Result<(), Error> {
    if stop() { Err(Error::Stopped) } else { Ok(()) }
}
