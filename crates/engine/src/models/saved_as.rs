//! What transformers is told of a tokenizer that is saved with a model.

use super::{Decoder, Encoder, TokenInput};
use crate::data::text::SavedAs;

/// What a decoder's tokenizer is saved for.
pub(super) fn saved_with(_: &Decoder, tokens: &TokenInput) -> SavedAs {
    SavedAs { max_length: tokens.max_length, class: "PreTrainedTokenizerFast", types: false }
}

/// What a model's tokenizer is saved for.
pub(super) fn saved_as(encoder: &Encoder, tokens: &TokenInput) -> SavedAs {
    SavedAs {
        max_length: tokens.max_length,
        class: encoder.family.names().tokenizer,
        types: tokens.type_vocab_size > 1,
    }
}
