//! Tokens with their places in a text, and text of tokens as they come: what causal language models need.

use std::path::Path;

use super::Tokenizer;
use crate::DataError;
use crate::guard;
use crate::words;

/// The tokens of a text without any that the tokenizer puts around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Token numbers.
    pub ids: Vec<i32>,
    /// The byte of the text at which each token begins, a boundary of characters; never falling. The first is 0. Where
    /// several tokens share a character, all begin where it does.
    pub begins: Vec<usize>,
}

impl Placed {
    /// The bytes of the text from each token's beginning to the next one's, the last one's to the end. They sum to the
    /// text's `len`. Of a character that several tokens share the last one has all bytes.
    pub fn bytes(&self, len: usize) -> Vec<u32> {
        let ends = self.begins.iter().skip(1).copied().chain([len]);
        self.begins.iter().zip(ends).map(|(begin, end)| (end - begin) as u32).collect()
    }
}

/// A tokenizer that puts nothing around texts and cuts nothing off.
#[derive(Debug)]
pub struct Placing<'a> {
    tokenizer: &'a Tokenizer,
    bare: tokenizers::Tokenizer,
}

impl Placing<'_> {
    /// The tokens of these texts, with their places.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when one cannot be encoded.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Placed>, DataError> {
        let inputs: Vec<&str> = texts.to_vec();
        let encoded = guard::catch(|| self.bare.encode_batch(inputs, false));
        let encoded = self.tokenizer.understood(encoded)?;
        let placed = texts.iter().zip(&encoded).map(|(text, encoding)| {
            let ids = encoding.get_ids().iter().map(|&id| id as i32).collect();
            let mut before = 0;
            let begin = |(place, &(start, _)): (usize, &(usize, usize))| {
                // What a normaliser takes away in front belongs to the first token.
                let start = if place == 0 { 0 } else { start.min(text.len()) };
                before = before.max(words::floor_char_boundary(text, start));
                before
            };
            let begins = encoding.get_offsets().iter().enumerate().map(begin).collect();
            Placed { ids, begins }
        });
        Ok(placed.collect())
    }
}

/// Text of tokens that come one by one, in pieces that are whole characters.
#[derive(Debug)]
pub struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether special tokens have text.
    special: bool,
    /// Tokens whose text was given, as those behind them may need them, and those whose text was not.
    ids: Vec<u32>,
    /// How many of the tokens are of the first kind.
    given: usize,
}

impl Stream<'_> {
    /// Adds a token; the text that is sure now, perhaps nothing.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when the tokenizer's decoder fails.
    pub fn push(&mut self, id: i32) -> Result<String, DataError> {
        self.ids.push(id as u32);
        let text = self.fresh()?;
        // Bytes that are no whole character yet.
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        // Later text may depend on the tokens before it, but on no others.
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(text)
    }

    /// What is left: bytes that became no character, as replacement characters.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(self) -> Result<String, DataError> {
        self.fresh()
    }

    /// The text of the tokens whose text was not given.
    fn fresh(&self) -> Result<String, DataError> {
        let before = self.tokenizer.text_of(&self.ids[..self.given], self.special)?;
        let all = self.tokenizer.text_of(&self.ids, self.special)?;
        let same = before.chars().zip(all.chars()).take_while(|(one, other)| one == other);
        Ok(all.chars().skip(same.count()).collect())
    }
}

impl Tokenizer {
    /// This tokenizer for texts whose tokens' places are asked for. Making it takes a copy of the vocabulary.
    pub fn placing(&self) -> Placing<'_> {
        let mut bare = self.inner.clone();
        // What it puts around texts is left out, and with it the blanks that it leaves out of places.
        bare.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        Placing { tokenizer: self, bare }
    }

    /// The tokens that it puts in front of each text by itself, as transformers does: `add_bos_token` of its
    /// configuration decides, and without that `tokenizer.json`.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it cannot encode a text.
    pub fn opening(&self) -> Result<Vec<i32>, DataError> {
        if let Some(asked) = self.files.flag("add_bos_token") {
            let bos = self.special("bos_token").filter(|_| asked);
            return Ok(bos.into_iter().collect());
        }
        let encoded = self.understood(guard::catch(|| self.inner.encode("a", true)))?;
        let special = encoded.get_ids().iter().zip(encoded.get_special_tokens_mask());
        Ok(special.take_while(|(_, mask)| **mask == 1).map(|(id, _)| *id as i32).collect())
    }

    /// The number of the token that is special as this (`bos_token`, `eos_token`, …), if there is one.
    pub fn special(&self, role: &str) -> Option<i32> {
        self.files.token(role).and_then(|token| self.id(token)).map(|id| id as i32)
    }

    /// The path of a file beside its own, for errors.
    pub(in crate::text) fn beside(&self, name: &str) -> String {
        Path::new(&self.path).with_file_name(name).display().to_string()
    }

    /// Begins a text of tokens that come one by one. Special tokens are left out unless they are asked for.
    pub fn stream(&self, special: bool) -> Stream<'_> {
        Stream { tokenizer: self, special, ids: Vec::new(), given: 0 }
    }

    /// The text of tokens, blanks at its ends included. Numbers that no token has, have none.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when the tokenizer's decoder fails.
    pub(in crate::text) fn text_of(&self, ids: &[u32], special: bool) -> Result<String, DataError> {
        let unfit =
            |problem: String| DataError::Unfit(format!("tokens cannot become text: {problem}"));
        let text = guard::catch(|| self.inner.decode(ids, !special)).map_err(unfit)?;
        text.map_err(|error| unfit(error.to_string()))
    }
}
