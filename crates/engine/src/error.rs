//! What can go wrong in the engine.

use distil_gpu_data::disk::DiskError;

/// Errors of the engine. Each names the thing concerned and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op was given tensors it cannot work on.
    #[error("{op} cannot take {found}: it needs {needed}")]
    Shape {
        /// The op.
        op: &'static str,
        /// Shapes and dtypes given.
        found: String,
        /// What it needs.
        needed: String,
    },
    /// The program does not do what was asked for.
    #[error("{what}: {instead}")]
    Unsupported {
        /// What it does not do, and why, as a clause.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// An op has no gradient and one was asked for.
    #[error("{op} has no gradient, and the loss depends on {tensor} through it")]
    NoGradient {
        /// The op.
        op: &'static str,
        /// The tensor.
        tensor: String,
    },
    /// A tensor exceeds a limit of the device.
    #[error(
        "{tensor} needs {bytes} bytes, more than this device's {limit} of {allowed}: use a smaller batch or model"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its size.
        bytes: u64,
        /// The limit's name.
        limit: &'static str,
        /// The limit.
        allowed: u64,
    },
    /// A parameter is to be stored in f16, which cannot hold its value.
    #[error("`{tensor}` holds {value}, and f16 ends at 65504: set `teacher.weights` to \"f32\"")]
    BeyondF16 {
        /// The parameter.
        tensor: String,
        /// The first such value.
        value: f32,
    },
    /// The device has no room.
    #[error(
        "no memory on {device} for {tensor} ({bytes} bytes): use a smaller batch or model, or close other programs"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// The tensor.
        tensor: String,
        /// Its size.
        bytes: u64,
    },
    /// The machine has too little memory for a training, whatever else it does.
    #[error(
        "training the {arm} takes at least {needed} of memory for parameters, gradients and moments, and this machine has \
         {installed}: use a smaller model, or an optimizer with fewer moments (sgd with momentum = 0 has none)"
    )]
    BeyondMemory {
        /// Which arm.
        arm: &'static str,
        /// What it takes, in words.
        needed: String,
        /// What there is, in words.
        installed: String,
    },
    /// A plan was handed an input or asked for an output that it lacks, or of another size.
    #[error("plan input or output `{name}`: {problem}")]
    Input {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// No device fits the request.
    #[error("{0}")]
    NoDevice(String),
    /// The device failed while working.
    #[error("{device} failed: {reason}")]
    DeviceLost {
        /// The device.
        device: String,
        /// What its driver said.
        reason: String,
    },
    /// A kernel cannot run on the device: a fault in this program or in the driver.
    #[error("kernel {kernel} does not run on {device}: {reason}")]
    Kernel {
        /// The kernel.
        kernel: &'static str,
        /// The device.
        device: String,
        /// What is wrong, or what the driver said.
        reason: String,
    },
    /// Training went wrong numerically.
    #[error("{0}")]
    NotFinite(String),
    /// Training was told to stop, and saved what it had.
    #[error("stopped after step {step} of the {arm}; its state is saved")]
    Interrupted {
        /// Which arm was in training.
        arm: &'static str,
        /// Steps it has taken.
        step: u32,
    },
    /// A model folder cannot be used.
    #[error("{path}: {problem}")]
    Model {
        /// File or folder.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The folder of a run cannot be read back.
    #[error("{path}: {problem}")]
    Run {
        /// File or folder.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Data cannot be used.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] crate::recipe::RecipeError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] DiskError),
}
