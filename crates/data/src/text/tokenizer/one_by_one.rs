//! Texts that come one by one, as a server's do: what encoding needs is made once.

use std::sync::Arc;

use tokenizers::EncodeInput;

use super::{Tokenizer, WordTokens};
use crate::DataError;
use crate::guard;
use crate::text::{Text, Words};

/// A tokenizer that cuts texts at a length, ready for one text after another. It may be used by several threads at once.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Arc<Tokenizer>,
    cutting: tokenizers::Tokenizer,
    max_length: usize,
}

/// A text as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// Token numbers, special ones included.
    pub ids: Vec<i32>,
    /// Which of two texts each is of.
    pub types: Vec<i32>,
    /// Whether the text was too long and lost its end.
    pub cut: bool,
}

/// A token of a text, and where it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPiece {
    /// Token number.
    pub id: i32,
    /// The part of the text, or of a special token its name.
    pub text: String,
    /// Whether the tokenizer put it there.
    pub special: bool,
    /// The first character of its part and the one behind the last; none of special ones.
    pub place: Option<[usize; 2]>,
}

impl TextEncoder {
    /// An encoder of at most `max_length` tokens of a text.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when no text fits into so few tokens.
    pub fn new(tokenizer: Arc<Tokenizer>, max_length: usize) -> Result<Self, DataError> {
        tokenizer.check_room(false, max_length)?;
        let cutting = tokenizer.truncating(max_length)?;
        Ok(Self { tokenizer, cutting, max_length })
    }

    /// How a text becomes tokens.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Most tokens of a text.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The tokens of a text or a pair; of a pair, the longer text is cut first.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when the text cannot be encoded, or becomes no token.
    pub fn encode(&self, text: &Text) -> Result<EncodedText, DataError> {
        let input: EncodeInput<'_> = match &text.second {
            Some(second) => (&*text.first, &**second).into(),
            None => (&*text.first).into(),
        };
        let encoded = guard::catch(|| self.cutting.encode_fast(input, true));
        let encoding = self.tokenizer.understood(encoded)?;
        let numbers = |numbers: &[u32]| numbers.iter().map(|&number| number as i32).collect();
        if encoding.get_ids().is_empty() {
            return Err(DataError::Unfit("the text becomes no token".to_owned()));
        }
        Ok(EncodedText {
            ids: numbers(encoding.get_ids()),
            types: numbers(encoding.get_type_ids()),
            cut: !encoding.get_overflowing().is_empty(),
        })
    }

    /// The tokens of a text that is split into words; see [`Tokenizer::encode_words`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode_words`].
    pub fn encode_words(&self, words: &Words) -> Result<WordTokens, DataError> {
        self.tokenizer.words_by(&self.cutting, words)
    }

    /// The tokens of a whole text, however long, with their places; special ones if they are asked for.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when the text cannot be encoded.
    pub fn pieces(&self, text: &str, special: bool) -> Result<Vec<TextPiece>, DataError> {
        let inner = &self.tokenizer.inner;
        let encoded = guard::catch(|| inner.encode_char_offsets(text, special));
        let encoding = self.tokenizer.understood(encoded)?;
        // Where each character begins, so that parts are found without counting again.
        let begins: Vec<usize> =
            text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect();
        let last = begins.len() - 1;
        let tokens = encoding.get_ids().iter().zip(encoding.get_special_tokens_mask());
        let pieces = tokens.zip(encoding.get_offsets()).map(|((&id, &mask), &(start, end))| {
            let special = mask == 1;
            let (start, end) = (start.min(last), end.clamp(start.min(last), last));
            let text = match special {
                true => inner.id_to_token(id).unwrap_or_default(),
                false => text[begins[start]..begins[end]].to_owned(),
            };
            let place = (!special).then_some([start, end]);
            TextPiece { id: id as i32, text, special, place }
        });
        Ok(pieces.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::*;
    use crate::Texts;

    #[test]
    fn one_text_is_encoded_as_all_are() {
        let tokenizer = Arc::new(tiny());
        let pair = Text { first: "good".to_owned(), second: Some("bad film good".to_owned()) };
        let singles = ["Good films", "weird", "good good good good film", ""].map(Text::from);
        for texts in [singles.to_vec(), vec![pair]] {
            for length in [4, 5, 16] {
                let encoder = TextEncoder::new(tokenizer.clone(), length).unwrap();
                let all = Texts::new(texts.clone()).unwrap();
                let tokens = tokenizer.encode_all(&all, length).unwrap();
                let mut cut = 0;
                for (row, text) in texts.iter().enumerate() {
                    let one = encoder.encode(text).unwrap();
                    assert_eq!((&*one.ids, &*one.types), tokens.row(row), "{length} {text}");
                    cut += usize::from(one.cut);
                }
                assert_eq!(cut, tokens.cut(), "{length}");
            }
        }
        assert!(TextEncoder::new(tokenizer, 2).is_err());
    }

    #[test]
    fn pieces_have_their_places_in_characters() {
        let encoder = TextEncoder::new(Arc::new(tiny()), 4).unwrap();
        let pieces = encoder.pieces("é good films", true).unwrap();
        let found: Vec<_> = pieces.iter().map(|p| (p.id, &*p.text, p.special, p.place)).collect();
        let wanted = [
            (2, "[CLS]", true, None),
            (1, "é", false, Some([0, 1])),
            (4, "good", false, Some([2, 6])),
            (5, "film", false, Some([7, 11])),
            (6, "s", false, Some([11, 12])),
            (3, "[SEP]", true, None),
        ];
        assert_eq!(found, wanted);
        assert_eq!(encoder.pieces("good", false).unwrap().len(), 1);
    }
}
