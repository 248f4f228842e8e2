//! How well what models say meets labels: pure functions of numbers, words and texts.

pub mod answers;
pub mod classes;
pub mod correlation;
pub mod entities;
pub mod numbers;
pub mod several;
pub mod spans;

pub use answers::AnswerScores;
pub use classes::{ClassScores, errors_per_class};
pub use entities::{EntityCounts, are_entities};
pub use numbers::Fit;
pub use several::SeveralLabels;
pub use spans::{ChosenSpan, SpanChoice, SpanLogits, predict};

/// The place of the largest of some numbers; of equals, the first, as everywhere.
pub fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// How often something is there, is said to be there, and both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What is there.
    pub truth: u64,
    /// What is said to be there.
    pub predicted: u64,
    /// What is there and said to be.
    pub correct: u64,
}

impl Counts {
    /// The share of what is said to be there that is; 0 where nothing is said.
    pub fn precision(&self) -> f64 {
        share(self.correct, self.predicted)
    }

    /// The share of what is there that is said to be; 0 where nothing is there.
    pub fn recall(&self) -> f64 {
        share(self.correct, self.truth)
    }

    /// The harmonic mean of precision and recall, 2 correct / (truth + predicted); 0 where nothing is there or said.
    pub fn f1(&self) -> f64 {
        share(2 * self.correct, self.truth + self.predicted)
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            truth: sum.truth + one.truth,
            predicted: sum.predicted + one.predicted,
            correct: sum.correct + one.correct,
        })
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
