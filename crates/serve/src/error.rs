//! Why a server does not start, or ends.

use distil_gpu_engine::Error;

/// Errors of the server itself; what is wrong with a request is its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A model cannot be loaded, or there is no device.
    #[error(transparent)]
    Engine(#[from] Error),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Options(String),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no thread or no socket.
    #[error("the server cannot run: {0}")]
    System(#[from] std::io::Error),
    /// The thread that has the device ended.
    #[error("the device's thread ended: this is a fault in the program")]
    Ended,
}
