//! Questions as tokens: each with as many windows of its context as it takes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::Tokens;
use crate::DataError;

/// Where an answer's tokens stand in a window: the first, and the last, which belongs to it. Both are 0, the place of
/// the token before the question, where no answer lies whole in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenSpan {
    /// Place of the first token.
    pub start: u32,
    /// Place of the last token.
    pub end: u32,
}

/// What is no character of the context, among the places of characters.
const NONE: u32 = u32::MAX;

/// Windows of questions and their contexts, at least one for each question, those of one question side by side. Clones
/// share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    tokens: Arc<Tokens>,
    inner: Arc<Inner>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inner {
    /// Of each window.
    questions: Vec<u32>,
    /// Of each token of all windows, where it begins and ends in its context, in characters; [`NONE`] outside.
    characters: Vec<[u32; 2]>,
    /// Of each window, where answers are known.
    spans: Option<Vec<TokenSpan>>,
}

impl Windows {
    /// Windows of these tokens, of these questions by number.
    ///
    /// `characters` has, for each token of all windows, where it begins and ends in its context, in characters, or
    /// nothing where it is none of the context's.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there is no window, or not as many questions, ranges or spans as there have to be.
    pub fn new(
        tokens: Arc<Tokens>,
        questions: Vec<u32>,
        characters: Vec<Option<[u32; 2]>>,
        spans: Option<Vec<TokenSpan>>,
    ) -> Result<Self, DataError> {
        let windows = tokens.len();
        let fits = windows > 0
            && questions.len() == windows
            && characters.len() == tokens.ids().len()
            && spans.as_ref().is_none_or(|spans| spans.len() == windows);
        if !fits {
            let problem =
                format!("what is told of {windows} windows of questions is not of as many");
            return Err(DataError::Unfit(problem));
        }
        let characters = characters.into_iter().map(|place| place.unwrap_or([NONE; 2])).collect();
        Ok(Self { tokens, inner: Arc::new(Inner { questions, characters, spans }) })
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens of the windows, special ones included.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The number of the question that each window is of.
    pub fn questions(&self) -> &[u32] {
        &self.inner.questions
    }

    /// The windows of each question that has some, both by number.
    pub fn by_question(&self) -> BTreeMap<u32, Vec<usize>> {
        let mut windows: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (window, &question) in self.questions().iter().enumerate() {
            windows.entry(question).or_default().push(window);
        }
        windows
    }

    /// [`Self::characters`] of all tokens of a window.
    ///
    /// # Panics
    /// When there is no such window.
    pub fn places(&self, window: usize) -> Vec<Option<Range<usize>>> {
        (0..self.tokens.length(window)).map(|token| self.characters(window, token)).collect()
    }

    /// Where a token of a window stands in its context, in characters; none where it is of the question, or special.
    ///
    /// # Panics
    /// When there is no such window.
    pub fn characters(&self, window: usize, token: usize) -> Option<Range<usize>> {
        let tokens = self.tokens.range(window);
        let [start, end] = *self.inner.characters[tokens].get(token)?;
        (start != NONE).then_some(start as usize..end as usize)
    }

    /// Where the answer stands in a window, if answers are known.
    ///
    /// # Panics
    /// When there is no such window.
    pub fn span(&self, window: usize) -> Option<TokenSpan> {
        self.inner.spans.as_ref().map(|spans| spans[window])
    }

    /// The first `count` windows, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        let count = count.max(1);
        if count >= self.len() {
            return self;
        }
        let tokens = self.tokens.take(count);
        let inner = Inner {
            questions: self.inner.questions[..count].to_vec(),
            characters: self.inner.characters[..tokens.ids().len()].to_vec(),
            spans: self.inner.spans.as_ref().map(|spans| spans[..count].to_vec()),
        };
        Self { tokens: Arc::new(tokens), inner: Arc::new(inner) }
    }

    /// The windows of these numbers, in their order; the questions keep their numbers.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        let questions = super::rows_of(&self.inner.questions, indices)?;
        if questions.is_empty() {
            return Err(DataError::Unfit("there is no window of a question".to_owned()));
        }
        let spans = self.inner.spans.as_ref().map(|spans| super::rows_of(spans, indices));
        let of_tokens = |&index: &u32| &self.inner.characters[self.tokens.range(index as usize)];
        let characters = indices.iter().flat_map(of_tokens).copied().collect();
        let inner = Inner { questions, characters, spans: spans.transpose()? };
        Ok(Self { tokens: Arc::new(self.tokens.select(indices)), inner: Arc::new(inner) })
    }

    /// A checksum (CRC-32) of each window.
    pub(crate) fn row_digests(&self) -> Vec<u32> {
        let digest = |window: usize| {
            let mut digest = crc32fast::Hasher::new();
            let (ids, types) = self.tokens.row(window);
            digest.update(bytemuck::cast_slice(ids));
            digest.update(bytemuck::cast_slice(types));
            if let Some(TokenSpan { start, end }) = self.span(window) {
                digest.update(bytemuck::cast_slice(&[start, end]));
            }
            digest.finalize()
        };
        (0..self.len()).map(digest).collect()
    }
}
