//! What a model reads of an example, as inputs of a graph.

use std::sync::Arc;

use distil_gpu_kernels::DType;

use crate::data::{DataError, Examples, Normalisation, Tokenizer};
use crate::graph::{Graph, TensorId};

/// What one example is to a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Numbers of one shape.
    Numbers {
        /// Shape of one example.
        shape: Vec<usize>,
        /// What the numbers go through first.
        normalisation: Normalisation,
    },
    /// A text's tokens.
    Tokens(TokenInput),
}

/// What a model reads of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInput {
    /// How a text becomes tokens; absent for a model that sees made-up tokens alone.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Most tokens of a text; what is longer is cut.
    pub max_length: usize,
    /// Whether it reads which of two texts a token belongs to.
    pub types: bool,
    /// Row of the position table for a text's first token.
    pub first_position: usize,
    /// What stands for a whole text.
    pub pooling: Pooling,
}

/// What stands for a whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Its first token.
    First,
    /// The mean of its tokens.
    Mean,
}

/// Extents of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchShape {
    /// Examples.
    pub rows: usize,
    /// Tokens of a text, padding included; 0 where examples are numbers.
    pub length: usize,
}

impl BatchShape {
    /// A batch of numbers.
    pub fn of_numbers(rows: usize) -> Self {
        Self { rows, length: 0 }
    }
}

/// A model's inputs in a graph.
#[derive(Clone, Copy, Debug)]
pub enum Inputs {
    /// Features [rows, elements].
    Numbers(TensorId),
    /// Of texts.
    Tokens(TokenTensors),
}

/// The tensors of a batch of texts, which are padded behind.
#[derive(Clone, Copy, Debug)]
pub struct TokenTensors {
    /// Extents.
    pub shape: BatchShape,
    /// Token numbers [rows, length].
    pub tokens: Ids,
    /// Which of two texts a token belongs to [rows, length].
    pub types: Option<Ids>,
    /// Rows of the position table [rows, length].
    pub positions: Ids,
    /// Tokens that are not padding [rows].
    pub lengths: TensorId,
    /// Weights [rows, 1, length] of the tokens in what stands for the whole text.
    pub pooling: TensorId,
}

/// Rows of a table, and the order in which a gradient gathers them: see [`Graph::gather`].
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// Row numbers.
    pub ids: TensorId,
    /// Their places, sorted by row number.
    pub order: TensorId,
}

/// Names of inputs.
pub(crate) mod names {
    pub const FEATURES: &str = "features";
    pub const TOKENS: &str = "tokens";
    pub const TYPES: &str = "token types";
    pub const POSITIONS: &str = "positions";
    pub const LENGTHS: &str = "lengths";
    pub const POOLING: &str = "pooling";
    /// Behind the name of row numbers.
    pub const ORDER: &str = " in order";
}

impl Input {
    /// Elements of one example that is numbers.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers { shape, .. } => shape.iter().product(),
            Self::Tokens(_) => 0,
        }
    }

    /// Whether an example is nothing.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Checks that examples are what the model takes.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when they are not.
    pub fn check(&self, examples: &Examples) -> Result<(), DataError> {
        let problem = match (self, examples) {
            (Self::Tokens(_), Examples::Texts(_)) => return Ok(()),
            (Self::Numbers { shape, normalisation }, Examples::Numbers(numbers)) => {
                if numbers.example_len() == self.len() {
                    return normalisation.check(numbers.shape());
                }
                let found = numbers.shape();
                format!("the model takes examples of {shape:?}, and these are {found:?}")
            }
            (Self::Numbers { .. }, _) => {
                "the model takes numbers or images, and these are texts".to_owned()
            }
            (Self::Tokens(_), _) => {
                "the model takes texts, and these are numbers or images".to_owned()
            }
        };
        Err(DataError::Unfit(problem))
    }

    /// Adds the inputs of a batch to a graph, their names behind `prefix`.
    pub fn of_graph(&self, graph: &mut Graph, prefix: &str, shape: BatchShape) -> Inputs {
        let name = |name: &str| format!("{prefix}{name}");
        let BatchShape { rows, length } = shape;
        let Self::Tokens(tokens) = self else {
            let features = name(names::FEATURES);
            return Inputs::Numbers(graph.input(&features, &[rows, self.len()], DType::F32));
        };
        let mut ids = |of: &str| Ids {
            ids: graph.input(&name(of), &[rows, length], DType::I32),
            order: graph.input(
                &name(&format!("{of}{}", names::ORDER)),
                &[rows * length],
                DType::I32,
            ),
        };
        let (words, positions) = (ids(names::TOKENS), ids(names::POSITIONS));
        let types = tokens.types.then(|| ids(names::TYPES));
        Inputs::Tokens(TokenTensors {
            shape,
            tokens: words,
            types,
            positions,
            lengths: graph.input(&name(names::LENGTHS), &[rows], DType::I32),
            pooling: graph.input(&name(names::POOLING), &[rows, 1, length], DType::F32),
        })
    }
}
