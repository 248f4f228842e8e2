//! Examples by what they hold: documents that are found again wherever they lie among others.

use std::fmt;

use super::feed::BatchEncoder;
use crate::data::{Examples, Features};

/// What a document is found by: FNV-1a in 128 bits (Fowler, Noll and Vo; RFC 9923) of what a model reads of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentHash(pub [u8; 16]);

impl fmt::Display for DocumentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The offset basis and the prime of FNV-1a in 128 bits.
const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = (1 << 88) + 0x13b;

impl DocumentHash {
    /// Of these parts, one behind the other, each with its length.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut state = BASIS;
        let mut add = |byte: u8| state = (state ^ u128::from(byte)).wrapping_mul(PRIME);
        for part in parts {
            (part.len() as u64).to_le_bytes().into_iter().for_each(&mut add);
            part.iter().copied().for_each(&mut add);
        }
        Self(state.to_le_bytes())
    }
}

/// What a model reads at once: an example, or of documents in rows a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is found by.
    pub hash: DocumentHash,
    /// Rows of a model's answer to it: one, or one for each next token that counts.
    pub rows: usize,
}

impl BatchEncoder<'_> {
    /// The tokens of a document, by its number in its row; nothing where examples are no documents.
    pub fn piece(&self, row: usize, number: usize) -> Option<&[i32]> {
        self.pieces(row).nth(number).map(|(ids, _)| ids)
    }

    /// The pieces of documents in a row: of each its tokens, and which of them are learnt; none where examples are no documents.
    pub fn pieces(&self, row: usize) -> impl Iterator<Item = (&[i32], &[bool])> {
        self.packed.iter().flat_map(move |packed| packed.pieces(row))
    }

    /// The documents of an example, in the order of a batch's rows.
    pub fn documents(&self, example: usize) -> Vec<Document> {
        if let Some(packed) = &self.packed {
            let piece = |(ids, counts): (&[i32], &[bool])| {
                // What is guessed of the first token is nothing.
                let counts: Vec<u8> = counts[1..].iter().map(|&counts| u8::from(counts)).collect();
                let rows = counts.iter().map(|&counts| usize::from(counts)).sum();
                Document { hash: DocumentHash::of(&[bytemuck::cast_slice(ids), &counts]), rows }
            };
            return packed.pieces(example).map(piece).collect();
        }
        let hash = match self.examples {
            Examples::Numbers(numbers) => {
                let width = numbers.example_len();
                let range = example * width..(example + 1) * width;
                DocumentHash::of(&[match numbers.features() {
                    Features::U8(pixels) => &pixels[range],
                    Features::F32(values) => bytemuck::cast_slice(&values[range]),
                }])
            }
            _ => {
                let (ids, types) = self.tokens().row(example);
                DocumentHash::of(&[bytemuck::cast_slice(ids), bytemuck::cast_slice(types)])
            }
        };
        vec![Document { hash, rows: 1 }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_eq!(
            DocumentHash::of(&[]).to_string(),
            "8dc595627521b86242 01bb072e27626c".replace(' ', "")
        );
        let of = DocumentHash::of;
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"abc"]), of(&[b"abc", b""]));
        assert_eq!(of(&[b"abc"]), of(&[b"abc"]));
    }
}
