//! Questions, each with a context that may hold its answer.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::rows::{Row, Rows, digest_parts};

/// A question and its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its name in its file, or its number.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text in which the answer is looked for; questions of one paragraph share it.
    pub context: Arc<str>,
}

impl Question {
    /// A part of its context by places of characters; what is beyond its end is left out.
    pub fn part(&self, characters: Range<usize>) -> &str {
        let byte = |place: usize| {
            self.context.char_indices().nth(place).map_or(self.context.len(), |(byte, _)| byte)
        };
        let start = byte(characters.start);
        &self.context[start..byte(characters.end).max(start)]
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.question, self.context)
    }
}

/// Questions with their contexts.
pub type Questions = Rows<Question>;

impl Row for Question {
    const NOUN: &'static str = "question";

    fn digest(&self, digest: &mut crc32fast::Hasher) {
        digest_parts([&*self.id, &*self.question, &*self.context], digest);
    }
}
