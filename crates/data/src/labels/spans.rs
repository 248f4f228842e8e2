//! Answers to questions, as parts of their contexts.

use std::sync::{Arc, LazyLock};

/// What a model says of spans: a number for each token to be the first of the answer, and one to be its last.
static OUTPUTS: LazyLock<[String; 2]> = LazyLock::new(|| ["start", "end"].map(str::to_owned));

/// An answer to a question: a part of its context.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Where it begins in the context, in characters (Unicode scalar values), as SQuAD counts.
    pub start: usize,
    /// Its text: as many characters of the context from there on.
    pub text: String,
}

/// The answers to one question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spans {
    /// The question's name in its file, or its number.
    pub id: String,
    /// All that are held to be right; none where the context has no answer.
    pub answers: Vec<Answer>,
}

/// The answers to questions. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanLabels {
    rows: Arc<Vec<Spans>>,
}

impl SpanLabels {
    /// The answers to each question.
    pub fn new(rows: Vec<Spans>) -> Self {
        Self { rows: Arc::new(rows) }
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Those of all questions, in order.
    pub fn all(&self) -> &[Spans] {
        &self.rows
    }

    /// Those of one question.
    ///
    /// # Panics
    /// When there is no such question.
    pub fn row(&self, row: usize) -> &Spans {
        &self.rows[row]
    }

    /// Whether some question has no answer, as in SQuAD 2.0.
    pub fn some_unanswerable(&self) -> bool {
        self.rows.iter().any(|row| row.answers.is_empty())
    }

    /// `start` and `end`.
    pub fn outputs(&self) -> &'static [String] {
        &*OUTPUTS
    }

    pub(super) fn take(self, count: usize) -> Self {
        match count < self.len() {
            true => Self::new(self.rows[..count].to_vec()),
            false => self,
        }
    }

    pub(super) fn select(&self, rows: &[u32]) -> Self {
        Self::new(rows.iter().map(|&row| self.rows[row as usize].clone()).collect())
    }

    pub(super) fn digest(&self, digest: &mut crc32fast::Hasher) {
        for Spans { id, answers } in self.all() {
            digest.update(id.as_bytes());
            digest.update(&[0]);
            digest.update(&(answers.len() as u32).to_le_bytes());
            for Answer { start, text } in answers {
                digest.update(&(*start as u64).to_le_bytes());
                digest.update(text.as_bytes());
                digest.update(&[0]);
            }
        }
    }
}
