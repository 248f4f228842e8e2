//! `tokenizer.ggml.*` as `tokenizer.json`, `tokenizer_config.json` and a chat template, and back.

mod merges;
mod pre;
mod read;
mod source;
mod unigram;
mod words;
mod write;

pub(crate) use read::read;
pub(crate) use source::Source;
pub(crate) use write::write;

/// Types of tokens, as files number them.
pub(crate) const NORMAL: i64 = 1;
pub(crate) const UNKNOWN: i64 = 2;
pub(crate) const CONTROL: i64 = 3;
pub(crate) const USER_DEFINED: i64 = 4;
pub(crate) const UNUSED: i64 = 5;
pub(crate) const BYTE: i64 = 6;

/// The name of a row of the embedding that no token has.
pub(crate) fn padding(id: usize) -> String {
    format!("[PAD{id}]")
}

/// SentencePiece's space.
pub(crate) const SPACE: &str = "▁";
