//! What a model reads of an example, as inputs of a graph.

use std::sync::Arc;

use distil_gpu_kernels::DType;

use crate::data::text::masking;
use crate::data::{
    Colour, DataError, Examples, Normalisation, Questions, SpanLabels, Tokenizer, Tokens, Windows,
};
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
        /// The colour that pictures showed in training where they were transparent, if any was.
        background: Option<Colour>,
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
    /// Rows of the table of which text of two a token belongs to; 0 where it does not read that.
    pub type_vocab_size: usize,
    /// Row of the position table for a text's first token; `None` where there is no such table.
    pub first_position: Option<usize>,
    /// What stands for a whole text.
    pub pooling: Pooling,
    /// Which tokens each token sees.
    pub attends: Attends,
}

/// What is added to padding, or stands for it, where the largest is sought: far below all numbers, and finite in f16.
pub const FAR_BELOW: f32 = -3e4;

/// Which tokens of a text each of them sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attends {
    /// All, and what layers say.
    #[default]
    All,
    /// Those before it and itself, of its own document where several lie in a row.
    Before {
        /// Whether some layers see all of these.
        whole: bool,
        /// The most that the other layers see of them, itself included.
        window: Option<usize>,
    },
}

/// Tokens that a window of a context has in common with the one before, of those that it reads at once: a third, as is
/// usual for SQuAD (128 of 384).
const STRIDE_SHARE: usize = 3;

impl TokenInput {
    /// Whether it reads such examples.
    fn reads(&self, examples: &Examples) -> bool {
        match examples {
            Examples::Texts(_) => {
                !matches!(self.pooling, Pooling::Words | Pooling::Tokens | Pooling::Next)
            }
            Examples::Words(_) => self.pooling == Pooling::Words,
            Examples::Questions(_) | Examples::Windows(_) => self.pooling == Pooling::Tokens,
            Examples::Documents(_) | Examples::Packed(_) => self.pooling == Pooling::Next,
            Examples::Numbers(_) => false,
        }
    }

    /// What it reads, for messages.
    fn wants(&self) -> &'static str {
        match self.pooling {
            Pooling::Words => "texts that are split into words",
            Pooling::Tokens => "questions with their contexts",
            Pooling::Next => "documents",
            _ => "whole texts",
        }
    }

    /// How a text becomes tokens.
    ///
    /// # Errors
    /// [`DataError::Unfit`] where that is not known.
    pub fn tokenizer(&self) -> Result<&Tokenizer, DataError> {
        self.tokenizer
            .as_deref()
            .ok_or_else(|| DataError::Unfit("the model has no tokenizer for texts".to_owned()))
    }

    /// Checks that a model has a row for every number that texts became.
    ///
    /// # Errors
    /// [`DataError::Unfit`], naming the first text with a number beyond the model's tables.
    pub fn check(&self, tokens: &Tokens) -> Result<(), DataError> {
        let beyond = |numbers: &[i32], rows: usize| {
            let unknown =
                |number: &&i32| usize::try_from(**number).is_ok_and(|number| number >= rows);
            numbers.iter().find(unknown).copied()
        };
        for row in 0..tokens.len() {
            let (ids, types) = tokens.row(row);
            let problem = if let Some(id) = beyond(ids, self.vocab_size) {
                format!("token {id}, and its vocab_size is {}", self.vocab_size)
            } else if self.type_vocab_size > 0
                && let Some(of) = beyond(types, self.type_vocab_size)
            {
                format!("a token of type {of}, and its type_vocab_size is {}", self.type_vocab_size)
            } else if ids.len() > self.max_length {
                format!("{} tokens, and it reads {}", ids.len(), self.max_length)
            } else {
                continue;
            };
            return Err(DataError::Unfit(format!(
                "the tokenizer is not the model's: text {row} has {problem}"
            )));
        }
        Ok(())
    }
}

/// What stands for a whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Its first token.
    First,
    /// The mean of its tokens.
    Mean,
    /// Their sum, divided by the square root of their number.
    MeanSqrtLength,
    /// Their mean, the first token weighing 1, the second 2 and so on.
    WeightedMean,
    /// Its last token.
    Last,
    /// The largest of each number among its tokens. Nothing is trained through it.
    Max,
    /// Nothing: its masked tokens stand for themselves.
    Masked,
    /// Nothing: the first token of each of its words stands for the word.
    Words,
    /// Nothing: all of its tokens stand for themselves.
    Tokens,
    /// Nothing: each token stands for itself where the next one counts.
    Next,
}

/// Extents of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchShape {
    /// Examples.
    pub rows: usize,
    /// Tokens of a text, padding included; 0 where examples are numbers.
    pub length: usize,
    /// Tokens that have room where a model guesses the next one, or masked ones; 0 where all of them have, of masked ones as
    /// many as there may be.
    pub guessed: usize,
}

impl BatchShape {
    /// A batch of numbers.
    pub fn of_numbers(rows: usize) -> Self {
        Self { rows, length: 0, guessed: 0 }
    }

    /// Next tokens that have room.
    pub fn next_tokens(self) -> usize {
        if self.guessed > 0 { self.guessed } else { self.rows * self.length }
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
    pub positions: Option<Ids>,
    /// Tokens that are not padding \[rows].
    pub lengths: TensorId,
    /// What a head works on.
    pub pooled: Pooled,
    /// Where tokens see those before them: the first key that each sees and the end, and the first query that sees each and
    /// the end, both [rows, length, 2].
    pub ranges: Option<[TensorId; 2]>,
    /// The same for layers that see those near by.
    pub near_ranges: Option<[TensorId; 2]>,
    /// Rows that a head on whole texts works on, those behind the batch's being zeros, where they are to be more.
    pub head_rows: usize,
}

/// What a head works on, of the last hidden states.
#[derive(Clone, Copy, Debug)]
pub enum Pooled {
    /// Sums of the tokens of each text with these weights [rows, 1, length].
    Weights(TensorId),
    /// The largest of each number, this being added to it first, far below zero at padding [rows, length, 1].
    Largest(TensorId),
    /// The masked tokens, or the first ones of words: their places \[tokens] among all of the batch.
    Masked(Ids),
    /// All tokens, this being added to their logits, far below zero at padding [rows, 1, length].
    Tokens(TensorId),
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
    pub const MASKED: &str = "masked tokens";
    pub const LABELS: &str = "labels";
    pub const RANGES: &str = "ranges";
    pub const NEAR_RANGES: &str = "near ranges";
    /// Behind the name of the queries' ranges.
    pub const OF_KEYS: &str = " of keys";
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

    /// Labels of a batch: one for each example, for each masked token, or for as many words or next tokens as there may be;
    /// of answers, one for the start and one for the end.
    pub fn labels(&self, shape: BatchShape) -> usize {
        match self {
            Self::Tokens(tokens) if tokens.pooling == Pooling::Masked && shape.guessed == 0 => {
                shape.rows * masking::most(shape.length)
            }
            Self::Tokens(tokens) if tokens.pooling == Pooling::Masked => shape.guessed,
            Self::Tokens(tokens) if tokens.pooling == Pooling::Next => shape.next_tokens(),
            Self::Tokens(tokens) if tokens.pooling == Pooling::Words => shape.rows * shape.length,
            Self::Tokens(tokens) if tokens.pooling == Pooling::Tokens => 2 * shape.rows,
            _ => shape.rows,
        }
    }

    /// Questions as the model reads them, with the places of their answers if these are known.
    ///
    /// # Errors
    /// As [`Tokenizer::windows`], and when the model reads no texts.
    pub fn windows(
        &self,
        questions: &Questions,
        answers: Option<&SpanLabels>,
    ) -> Result<Windows, DataError> {
        let Self::Tokens(tokens) = self else {
            return Err(DataError::Unfit("the model takes no questions".to_owned()));
        };
        let stride = tokens.max_length / STRIDE_SHARE;
        let windows = tokens.tokenizer()?.windows(questions, answers, tokens.max_length, stride)?;
        tokens.check(windows.tokens())?;
        Ok(windows)
    }

    /// Whether it is a text some of whose tokens are masked.
    pub fn masks(&self) -> bool {
        matches!(self, Self::Tokens(tokens) if tokens.pooling == Pooling::Masked)
    }

    /// Checks that examples are what the model takes.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when they are not.
    pub fn check(&self, examples: &Examples) -> Result<(), DataError> {
        let problem = match (self, examples) {
            (Self::Tokens(tokens), _) if tokens.reads(examples) => return Ok(()),
            (Self::Numbers { shape, normalisation, background }, Examples::Numbers(numbers)) => {
                if let (Some(learnt), Some(shown)) = (*background, numbers.background())
                    && learnt != shown
                {
                    return Err(DataError::Unfit(format!(
                        "the model learnt transparent pictures on {learnt}, and these are on {shown}: set \
                         `data.background` to \"{learnt}\""
                    )));
                }
                if numbers.example_len() == self.len() {
                    return normalisation.check(numbers.shape());
                }
                let found = numbers.shape();
                format!("the model takes examples of {shape:?}, and these are {found:?}")
            }
            (Self::Numbers { .. }, _) => {
                "the model takes numbers or images, and these are texts".to_owned()
            }
            (Self::Tokens(_), Examples::Numbers(_)) => {
                "the model takes texts, and these are numbers or images".to_owned()
            }
            (Self::Tokens(tokens), _) => {
                format!(
                    "the model takes {}, and an example here is {}",
                    tokens.wants(),
                    examples.kind()
                )
            }
        };
        Err(DataError::Unfit(problem))
    }

    /// Adds the inputs of a batch to a graph, their names behind `prefix`.
    pub fn of_graph(&self, graph: &mut Graph, prefix: &str, shape: BatchShape) -> Inputs {
        let name = |name: &str| format!("{prefix}{name}");
        let BatchShape { rows, length, .. } = shape;
        let Self::Tokens(tokens) = self else {
            let features = name(names::FEATURES);
            return Inputs::Numbers(graph.input(&features, &[rows, self.len()], DType::F32));
        };
        let mut ids = |of: &str, shape: &[usize]| {
            let order = name(&format!("{of}{}", names::ORDER));
            Ids {
                ids: graph.input(&name(of), shape, DType::I32),
                order: graph.input(&order, &[shape.iter().product()], DType::I32),
            }
        };
        let all = [rows, length];
        let words = ids(names::TOKENS, &all);
        let positions = tokens.first_position.map(|_| ids(names::POSITIONS, &all));
        let types = (tokens.type_vocab_size > 0).then(|| ids(names::TYPES, &all));
        let chooses = matches!(tokens.pooling, Pooling::Masked | Pooling::Words | Pooling::Next);
        let masked = chooses.then(|| ids(names::MASKED, &[self.labels(shape)]));
        let pooled = match masked {
            Some(masked) => Pooled::Masked(masked),
            None if tokens.pooling == Pooling::Max => {
                let mask = name(names::POOLING);
                Pooled::Largest(graph.input(&mask, &[rows, length, 1], DType::F32))
            }
            None if tokens.pooling == Pooling::Tokens => {
                let mask = name(names::POOLING);
                Pooled::Tokens(graph.input(&mask, &[rows, 1, length], DType::F32))
            }
            None => {
                let weights = name(names::POOLING);
                Pooled::Weights(graph.input(&weights, &[rows, 1, length], DType::F32))
            }
        };
        let mut ranges = |of: &str| {
            [name(of), name(&format!("{of}{}", names::OF_KEYS))]
                .map(|name| graph.input(&name, &[rows, length, 2], DType::I32))
        };
        let (ranges, near_ranges) = match tokens.attends {
            Attends::All => (None, None),
            Attends::Before { whole, window } => {
                (whole.then(|| ranges(names::RANGES)), window.map(|_| ranges(names::NEAR_RANGES)))
            }
        };
        Inputs::Tokens(TokenTensors {
            shape,
            head_rows: rows,
            ranges,
            near_ranges,
            tokens: words,
            types,
            positions,
            lengths: graph.input(&name(names::LENGTHS), &[rows], DType::I32),
            pooled,
        })
    }
}
