//! Which part of a batch's output is whose: the answers of a model to examples, one behind the other.

use super::feed::BatchEncoder;
use super::inputs::{BatchShape, FAR_BELOW, Input, Pooling};

/// A model's raw answers to a data set, one example's behind the other's, and how many numbers a row of one has.
pub type RawAnswers<'a> = (&'a [f32], usize);

impl BatchEncoder<'_> {
    fn pooling(&self) -> Option<Pooling> {
        match self.input() {
            Input::Tokens(tokens) => Some(tokens.pooling),
            Input::Numbers { .. } => None,
        }
    }

    /// Labels of a batch; see [`Input::labels`].
    pub fn labels(&self, shape: BatchShape) -> usize {
        self.input().labels(shape)
    }

    /// Numbers of the answer to an example, whose rows have so many numbers: one row, one for each word, or the starts and
    /// the ends of all tokens.
    pub fn answer_len(&self, row: usize, width: usize) -> usize {
        match self.pooling() {
            Some(Pooling::Words) => self.words(row).count() * width,
            Some(Pooling::Tokens) => 2 * self.tokens().length(row),
            _ => width,
        }
    }

    /// Where the answer to each example begins, and behind the last one where it ends.
    pub fn offsets(&self, width: usize) -> Vec<usize> {
        let mut end = 0;
        let ends = (0..self.len()).map(|row| {
            end += self.answer_len(row, width);
            end
        });
        [0].into_iter().chain(ends).collect()
    }

    /// Calls `each` with every example of a batch and the ranges of the batch's output and of its own answer that are the
    /// same numbers.
    fn parts(
        &self,
        indices: &[u32],
        shape: BatchShape,
        width: usize,
        each: &mut dyn FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        let mut next = 0;
        for (at, &row) in indices.iter().enumerate() {
            let row = row as usize;
            let len = self.answer_len(row, width);
            if self.pooling() == Some(Pooling::Tokens) {
                for half in 0..2 {
                    let from = (2 * at + half) * shape.length;
                    let to = half * len / 2;
                    each(row, from..from + len / 2, to..to + len / 2);
                }
            } else {
                each(row, next..next + len, 0..len);
                next += len;
            }
        }
    }

    /// Puts a batch's output among the answers to all examples, which begin at these [`Self::offsets`].
    ///
    /// # Panics
    /// When the output is shorter than the batch.
    pub fn collect_answers(
        &self,
        (indices, shape): (&[u32], BatchShape),
        width: usize,
        output: &[f32],
        offsets: &[usize],
        answers: &mut [f32],
    ) {
        self.parts(indices, shape, width, &mut |row, from, to| {
            let start = offsets[row];
            answers[start + to.start..start + to.end].copy_from_slice(&output[from]);
        });
    }

    /// Numbers of a batch's output, where a row of it has so many.
    pub fn output_len(&self, shape: BatchShape, width: usize) -> usize {
        match self.pooling() {
            Some(Pooling::Tokens) => 2 * shape.rows * shape.length,
            _ => self.labels(shape) * width,
        }
    }

    /// Puts the answers to a batch's examples where its output would have them. What is behind them is left; the places of
    /// padding among tokens are far below all others.
    ///
    /// # Panics
    /// When the output is shorter than the batch.
    pub fn spread_answers(
        &self,
        (indices, shape): (&[u32], BatchShape),
        width: usize,
        (offsets, answers): (&[usize], &[f32]),
        output: &mut [f32],
    ) {
        if self.pooling() == Some(Pooling::Tokens) {
            output.fill(FAR_BELOW);
        }
        self.parts(indices, shape, width, &mut |row, to, from| {
            let start = offsets[row];
            output[to].copy_from_slice(&answers[start + from.start..start + from.end]);
        });
    }
}
