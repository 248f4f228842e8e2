//! What can be wrong with data.

/// Errors of data. Each names the file and the place in it, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder does not hold what it should.
    #[error("{path}: {problem}")]
    File {
        /// The file or folder.
        path: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A cell of a CSV file is not what it should be.
    #[error("{path}: line {line}, column {column}: {problem}")]
    Cell {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// The column, from 0 as in a recipe, with its name if it has one.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// A safetensors file lacks a tensor.
    #[error("{path}: there is no tensor `{tensor}`; the file holds {held}")]
    MissingTensor {
        /// The file.
        path: String,
        /// The tensor that is lacking.
        tensor: String,
        /// The names of those that are there.
        held: String,
    },
    /// A tensor is not what it should be.
    #[error("{path}: tensor `{tensor}`: {problem}")]
    Tensor {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// Training and test data do not go together.
    #[error("training and test data differ: {what} {train} in training, {test} in test")]
    Mismatch {
        /// In what, with a verb: `an example is`.
        what: &'static str,
        /// The training data's.
        train: String,
        /// The test data's.
        test: String,
    },
    /// The data do not allow what a recipe asks of them, or contradict themselves.
    #[error("{0}")]
    Unfit(String),
}
