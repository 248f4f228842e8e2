//! Documents as tokens, and which of these a causal language model learns to guess.
//!
//! A document's text is encoded whole, as its parts would have other tokens by themselves. What is learnt of it are ranges
//! of its bytes; a token counts if it begins in one of them.

use std::ops::Range;

use super::chat_template::Written;
use super::documents::{Document, Documents, LossOn, Message, Role};
use super::tokenizer::{Placed, Placing};
use super::{ChatTemplate, Tokenizer};
use crate::DataError;

/// Documents that are written and encoded together.
const TOGETHER: usize = 256;

/// A document's tokens; every list has an entry for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentRow<'a> {
    /// Token numbers.
    pub ids: &'a [i32],
    /// Whether the token is learnt, if there is one before it.
    pub counts: &'a [bool],
    /// Bytes of the document's text that the token stands for: 0 for what is put around it.
    pub bytes: &'a [u32],
}

/// Tokens of documents, one document behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentTokens {
    ids: Vec<i32>,
    counts: Vec<bool>,
    bytes: Vec<u32>,
    ends: Vec<usize>,
}

impl DocumentTokens {
    /// Adds a document: its token numbers, which of them are learnt, and the bytes that each stands for.
    ///
    /// # Panics
    /// When these are not equally many.
    pub fn push(&mut self, ids: &[i32], counts: &[bool], bytes: &[u32]) {
        assert!(ids.len() == counts.len() && ids.len() == bytes.len());
        self.ids.extend_from_slice(ids);
        self.counts.extend_from_slice(counts);
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.ids.len());
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A document's tokens.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn row(&self, document: usize) -> DocumentRow<'_> {
        let start = document.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range = start..self.ends[document];
        DocumentRow {
            ids: &self.ids[range.clone()],
            counts: &self.counts[range.clone()],
            bytes: &self.bytes[range],
        }
    }

    /// The token numbers of all documents.
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// How many tokens are learnt.
    pub fn counted(&self) -> usize {
        self.counts.iter().filter(|counts| **counts).count()
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> u64 {
        self.bytes.iter().map(|bytes| u64::from(*bytes)).sum()
    }
}

/// A part of a document that is learnt, or not, as a report shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPiece {
    /// Its text; of what is put around a text the token itself.
    pub text: String,
    /// Whether it is learnt.
    pub counts: bool,
}

/// Makes tokens of documents.
#[derive(Debug)]
pub struct DocumentEncoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>,
    loss_on: LossOn,
    placing: Placing<'a>,
    /// What is put in front of texts that are no chats, and behind them.
    opening: Vec<i32>,
    end: Option<i32>,
    /// The tokens that may end a turn, as they are written.
    added: Vec<String>,
}

/// A document's tokens before they lie with others.
struct Encoded {
    ids: Vec<i32>,
    counts: Vec<bool>,
    bytes: Vec<u32>,
    /// How many tokens were put in front of the text's own, and behind them.
    around: [usize; 2],
}

impl<'a> DocumentEncoder<'a> {
    /// An encoder with a tokenizer, the template of chats, if there is one, and what is learnt.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when the tokenizer cannot encode a text.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<ChatTemplate>,
        loss_on: LossOn,
    ) -> Result<Self, DataError> {
        Ok(Self {
            tokenizer,
            template,
            loss_on,
            placing: tokenizer.placing(),
            opening: tokenizer.opening()?,
            end: tokenizer.special("eos_token"),
            added: tokenizer.added().into_iter().map(|(_, token)| token.content).collect(),
        })
    }

    /// The tokens of documents.
    ///
    /// Chats are encoded as their template writes them, without anything around. Other texts have in front what the
    /// tokenizer puts there by itself, and its end-of-text token behind; neither twice, where the text has it already.
    ///
    /// # Errors
    /// [`DataError`] when there is a chat and no template, the template makes no text of it, it cannot be told where the
    /// assistant's messages are, or a text cannot be encoded or becomes no token.
    pub fn encode(&self, documents: &Documents) -> Result<DocumentTokens, DataError> {
        let mut tokens = DocumentTokens::default();
        let all = documents.all();
        for (chunk, rows) in all.chunks(TOGETHER).enumerate() {
            for (_, encoded) in self.chunk(rows, chunk * TOGETHER)? {
                tokens.push(&encoded.ids, &encoded.counts, &encoded.bytes);
            }
        }
        Ok(tokens)
    }

    /// The first `count` documents in parts that are learnt and parts that are not, as a report shows them.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn shown(
        &self,
        documents: &Documents,
        count: usize,
    ) -> Result<Vec<Vec<ShownPiece>>, DataError> {
        let count = count.min(documents.len()).min(TOGETHER);
        let encoded = self.chunk(&documents.all()[..count], 0)?;
        encoded.into_iter().map(|(text, encoded)| self.pieces(&text, &encoded)).collect()
    }

    /// The tokens after which an answer is over: the end of the text, and what ends the assistant's turn in a chat.
    ///
    /// # Errors
    /// [`DataError`] when the template makes no text of a chat of two messages.
    pub fn stops(&self) -> Result<Vec<i32>, DataError> {
        let mut stops: Vec<i32> = self.end.into_iter().collect();
        let Some(template) = &self.template else { return Ok(stops) };
        let say = |role| Message { role, content: "a".to_owned() };
        let text = template.render(&[say(Role::User), say(Role::Assistant)], false)?;
        let end = self.turn_end(&text, 0..text.len());
        let token = self.added.iter().filter(|token| text[..end].ends_with(&***token));
        let id = token.max_by_key(|token| token.len()).and_then(|token| self.tokenizer.id(token));
        stops.extend(id.map(|id| id as i32).filter(|id| Some(*id) != self.end));
        Ok(stops)
    }

    /// Documents, the first of which has this number, as texts and tokens.
    fn chunk(&self, rows: &[Document], first: usize) -> Result<Vec<(String, Encoded)>, DataError> {
        let (mut chats, mut numbers) = (Vec::new(), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            if let Document::Chat(chat) = row {
                chats.push(chat.clone());
                numbers.push(first + place);
            }
        }
        let written = match (&self.template, chats.is_empty()) {
            (_, true) => Vec::new(),
            (Some(template), _) => template.write(chats, &numbers, self.loss_on)?,
            (None, _) => {
                return Err(DataError::Unfit(format!(
                    "document {} is a chat, and the model's folder has no chat template: put a chat_template.jinja into it, \
                     or give documents of `text` or of `prompt` and `completion`",
                    numbers[0]
                )));
            }
        };
        let mut of_chats = written.into_iter();
        let texts: Vec<Written> = rows
            .iter()
            .map(|row| match row {
                Document::Text(text) => Written::with(text.clone(), 0..text.len()),
                Document::Prompted { prompt, completion } => self.prompted(prompt, completion),
                Document::Chat(_) => self.chat(of_chats.next()),
            })
            .collect();
        let placed =
            self.placing.encode(&texts.iter().map(|one| &*one.text).collect::<Vec<_>>())?;
        let all = rows.iter().zip(texts).zip(placed).enumerate();
        let encode =
            |(place, ((row, written), placed)): (usize, ((&Document, Written), Placed))| {
                if placed.ids.is_empty() {
                    let (number, shown) = (first + place, written.text.chars().take(60));
                    let shown: String = shown.collect();
                    let problem = format!("document {number}, {shown:?}, becomes no token");
                    return Err(DataError::Unfit(problem));
                }
                let mut encoded = encoded(&placed, &written);
                if !matches!(row, Document::Chat(_)) {
                    self.close(&mut encoded);
                }
                Ok((written.text, encoded))
            };
        all.map(encode).collect()
    }

    fn prompted(&self, prompt: &str, completion: &str) -> Written {
        let text = format!("{prompt}{completion}");
        let start = if self.loss_on == LossOn::All { 0 } else { prompt.len() };
        let end = text.len();
        Written::with(text, start..end)
    }

    fn chat(&self, written: Option<Written>) -> Written {
        let Written { text, mut spans } = written.unwrap_or_default();
        // What a template marks is meant as it is.
        let is_marked = self.template.as_ref().is_some_and(ChatTemplate::marks);
        if self.loss_on == LossOn::Completions && !is_marked {
            spans.iter_mut().for_each(|span| span.end = self.turn_end(&text, span.clone()));
        }
        Written { text, spans }
    }

    /// Where a turn of the assistant ends: behind the token that ends it, without the line end that many templates write
    /// there, which no model has to guess.
    fn turn_end(&self, text: &str, span: Range<usize>) -> usize {
        let turn = text[span.clone()].trim_end();
        match self.added.iter().any(|token| turn.ends_with(&**token)) {
            true => span.start + turn.len(),
            false => span.end,
        }
    }

    /// Puts around a text what belongs there and is not there yet.
    fn close(&self, encoded: &mut Encoded) {
        if !encoded.ids.starts_with(&self.opening) {
            let count = self.opening.len();
            encoded.ids.splice(0..0, self.opening.iter().copied());
            encoded.counts.splice(0..0, std::iter::repeat_n(self.loss_on == LossOn::All, count));
            encoded.bytes.splice(0..0, std::iter::repeat_n(0, count));
            encoded.around[0] = count;
        }
        if let Some(end) = self.end.filter(|end| encoded.ids.last() != Some(end)) {
            encoded.ids.push(end);
            encoded.counts.push(true);
            encoded.bytes.push(0);
            encoded.around[1] = 1;
        }
    }

    /// A document's text in parts of tokens that count alike.
    fn pieces(&self, text: &str, encoded: &Encoded) -> Result<Vec<ShownPiece>, DataError> {
        let (mut pieces, mut at): (Vec<ShownPiece>, usize) = (Vec::new(), 0);
        let [front, back] = encoded.around;
        let own = front..encoded.ids.len() - back;
        for (place, (&id, &bytes)) in encoded.ids.iter().zip(&encoded.bytes).enumerate() {
            let part = match own.contains(&place) {
                true => text[at..at + bytes as usize].to_owned(),
                false => self.tokenizer.text_of(&[id as u32], true)?,
            };
            at += bytes as usize;
            let counts = encoded.counts[place];
            match pieces.last_mut().filter(|piece| piece.counts == counts) {
                Some(piece) => piece.text.push_str(&part),
                None => pieces.push(ShownPiece { text: part, counts }),
            }
        }
        Ok(pieces)
    }
}

/// A text's own tokens.
fn encoded(placed: &Placed, written: &Written) -> Encoded {
    let mut spans = written.spans.iter().peekable();
    let count = |begin: &usize| {
        while spans.next_if(|span| span.end <= *begin).is_some() {}
        spans.peek().is_some_and(|span| span.start <= *begin)
    };
    Encoded {
        ids: placed.ids.clone(),
        counts: placed.begins.iter().map(count).collect(),
        bytes: placed.bytes(written.text.len()),
        around: [0; 2],
    }
}

#[cfg(test)]
mod tests;
