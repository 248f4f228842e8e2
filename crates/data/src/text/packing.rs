//! Documents in rows of one length: cut where they are longer, packed where they are shorter.
//!
//! A token sees those before it in its own piece of a document alone, as told by the first key of each token, and its
//! position counts from that piece's beginning. So what a model makes of a document does not depend on its neighbours.

use std::cmp::Reverse;
use std::ops::Range;

use super::DocumentTokens;
use crate::DataError;

/// A part of a document that lies in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The number of its document.
    pub document: usize,
    /// Its first token among the document's.
    pub start: usize,
    /// Its number of tokens, at least 2.
    pub len: usize,
}

/// A row of tokens; every list has an entry for each of the row's places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedRow {
    /// Token numbers, 0 where there is padding.
    pub ids: Vec<i32>,
    /// The place of each token in its piece, from 0; 0 where there is padding.
    pub positions: Vec<i32>,
    /// The first place of the row that belongs to the same piece; a place of padding sees itself alone.
    pub first_key: Vec<i32>,
    /// The last place of the row that belongs to the same piece, to which the gradient of a key comes from.
    pub last_query: Vec<i32>,
    /// The token that follows in the same piece, where it counts in the loss. So the labels are shifted already.
    pub labels: Vec<Option<i32>>,
    /// Bytes of text that the labels stand for, for bits per byte.
    pub bytes: u64,
}

/// Which pieces of documents lie in which row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    length: usize,
    /// Row by row.
    pieces: Vec<Piece>,
    ends: Vec<usize>,
    dropped: usize,
    tokens: usize,
}

impl Packing {
    /// Lays documents into rows of `length` tokens.
    ///
    /// A longer document is cut into pieces that share no token, the last of which may be shorter. The last token of a
    /// piece has no label, even where the document goes on, so each cut costs one. Pieces of fewer than 2 tokens, or in
    /// which no token has a label, as of a long prompt, are dropped.
    ///
    /// With `pack`, the longest pieces come first and each goes into the first row that has room (first-fit decreasing);
    /// of pieces of one length those of earlier documents come first. Without, each piece is a row of its own, in the
    /// order of the documents. Takes O(n log n) steps for n pieces.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when rows have fewer than 2 tokens or no piece is left.
    pub fn new(documents: &DocumentTokens, length: usize, pack: bool) -> Result<Self, DataError> {
        if length < 2 || i32::try_from(length).is_err() {
            return Err(DataError::Unfit(format!(
                "rows of {length} tokens hold no text of which a token could be guessed: set a `max_length` of at least 2"
            )));
        }
        let (mut pieces, mut dropped) = (Vec::new(), 0);
        for document in 0..documents.len() {
            let counts = documents.row(document).counts;
            for start in (0..counts.len()).step_by(length) {
                let len = length.min(counts.len() - start);
                match counts[start..start + len].iter().skip(1).any(|counts| *counts) {
                    true => pieces.push(Piece { document, start, len }),
                    false => dropped += 1,
                }
            }
        }
        if pieces.is_empty() {
            let problem = "no document has a token that could be guessed from those before it";
            return Err(DataError::Unfit(problem.to_owned()));
        }
        let rows: Vec<usize> = match pack {
            true => {
                pieces.sort_by_key(|piece| Reverse(piece.len));
                let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len).collect();
                first_fit(&lengths, length)
            }
            false => (0..pieces.len()).collect(),
        };
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|place| rows[*place]);
        let count = rows.iter().max().map_or(0, |last| last + 1);
        let mut ends = vec![0; count];
        rows.iter().for_each(|row| ends[*row] += 1);
        ends.iter_mut().fold(0, |before, end| {
            *end += before;
            *end
        });
        let tokens = pieces.iter().map(|piece| piece.len).sum();
        let pieces = order.into_iter().map(|place| pieces[place]).collect();
        Ok(Self { length, pieces, ends, dropped, tokens })
    }

    /// Number of rows, at least one.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Places of a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The pieces of a row, in their order.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn pieces(&self, row: usize) -> &[Piece] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.pieces[start..self.ends[row]]
    }

    /// How many pieces were dropped.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Tokens in all rows, padding left out.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The share of places that hold no token, from 0 to 1.
    pub fn padding(&self) -> f64 {
        1.0 - self.tokens as f64 / (self.rows() as f64 * self.length as f64)
    }

    /// A row of the documents that it was made for.
    ///
    /// # Panics
    /// When there is no such row, or the documents are others.
    pub fn row(&self, documents: &DocumentTokens, row: usize) -> PackedRow {
        let mut packed = PackedRow::default();
        for &Piece { document, start, len } in self.pieces(row) {
            let first = packed.ids.len();
            let document = documents.row(document);
            let range = start..start + len;
            packed.ids.extend_from_slice(&document.ids[range.clone()]);
            packed.positions.extend((0..len).map(|place| place as i32));
            packed.first_key.extend(std::iter::repeat_n(first as i32, len));
            packed.last_query.extend(std::iter::repeat_n((first + len - 1) as i32, len));
            for next in range.start + 1..range.end {
                let counts = document.counts[next];
                packed.labels.push(counts.then_some(document.ids[next]));
                packed.bytes += if counts { u64::from(document.bytes[next]) } else { 0 };
            }
            packed.labels.push(None);
        }
        packed.pad(self.length);
        packed
    }
}

impl PackedRow {
    fn pad(&mut self, length: usize) {
        let places: Range<usize> = self.ids.len()..length;
        let own = places.map(|place| place as i32);
        self.first_key.extend(own.clone());
        self.last_query.extend(own);
        self.ids.resize(length, 0);
        self.positions.resize(length, 0);
        self.labels.resize(length, None);
    }
}

/// The row of each piece, which is the first that has room for it. No piece is longer than a row.
fn first_fit(lengths: &[usize], length: usize) -> Vec<usize> {
    // A tree over as many rows as could be needed: a node knows the most room of a row below it.
    let leaves = lengths.len().next_power_of_two();
    let mut room = vec![length; 2 * leaves];
    let row = |&len: &usize| {
        let mut node = 1;
        while node < leaves {
            node = if room[2 * node] >= len { 2 * node } else { 2 * node + 1 };
        }
        let row = node - leaves;
        room[node] -= len;
        while node > 1 {
            node /= 2;
            room[node] = room[2 * node].max(room[2 * node + 1]);
        }
        row
    };
    lengths.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents of so many tokens, numbered through from 1, which all count and have as many bytes as their number.
    fn documents(lengths: &[usize]) -> DocumentTokens {
        let (mut documents, mut next) = (DocumentTokens::default(), 1);
        for &len in lengths {
            let ids: Vec<i32> = (next..).take(len).collect();
            let bytes: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
            documents.push(&ids, &vec![true; len], &bytes);
            next += len as i32;
        }
        documents
    }

    /// Numbers that look random.
    fn numbers(count: usize, most: usize) -> Vec<usize> {
        let mut state = 12345_u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            1 + (state >> 33) as usize % most
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_row_has_the_places_and_labels_of_its_pieces() {
        let documents = documents(&[2, 4]);
        let packing = Packing::new(&documents, 8, true).unwrap();
        assert_eq!((packing.rows(), packing.tokens(), packing.padding()), (1, 6, 0.25));
        let row = packing.row(&documents, 0);
        assert_eq!(row.ids, [3, 4, 5, 6, 1, 2, 0, 0]);
        assert_eq!(row.positions, [0, 1, 2, 3, 0, 1, 0, 0]);
        assert_eq!(row.first_key, [0, 0, 0, 0, 4, 4, 6, 7]);
        assert_eq!(row.last_query, [3, 3, 3, 3, 5, 5, 6, 7]);
        let labels = [Some(4), Some(5), Some(6), None, Some(2), None, None, None];
        assert_eq!(row.labels, labels);
        assert_eq!(row.bytes, 4 + 5 + 6 + 2);
    }

    #[test]
    fn only_what_counts_has_a_label() {
        let mut documents = DocumentTokens::default();
        documents.push(&[7, 8, 9, 10], &[true, false, true, true], &[3, 1, 2, 4]);
        let row = Packing::new(&documents, 5, false).unwrap().row(&documents, 0);
        assert_eq!(row.labels, [None, Some(9), Some(10), None, None]);
        assert_eq!(row.bytes, 6);
    }

    #[test]
    fn long_documents_are_cut() {
        let documents = documents(&[11, 1, 5]);
        let packing = Packing::new(&documents, 5, false).unwrap();
        let ids: Vec<Vec<i32>> =
            (0..packing.rows()).map(|row| packing.row(&documents, row).ids).collect();
        // The eleventh token, alone in its piece, and the second document are dropped.
        assert_eq!(ids, [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [13, 14, 15, 16, 17]]);
        assert_eq!((packing.dropped(), packing.padding()), (2, 0.0));
        let second = packing.row(&documents, 1);
        assert_eq!(second.positions, [0, 1, 2, 3, 4]);
        assert_eq!(second.labels, [Some(7), Some(8), Some(9), Some(10), None]);
    }

    #[test]
    fn a_piece_without_labels_is_dropped() {
        let mut documents = DocumentTokens::default();
        let counts = [false, false, false, false, true, true];
        documents.push(&[1, 2, 3, 4, 5, 6], &counts, &[1; 6]);
        let packing = Packing::new(&documents, 2, true).unwrap();
        assert_eq!((packing.rows(), packing.dropped()), (1, 2));
        assert_eq!(packing.row(&documents, 0).ids, [5, 6]);
        // What nothing leads to cannot be guessed.
        let mut documents = DocumentTokens::default();
        documents.push(&[1, 2], &[true, false], &[1, 1]);
        assert!(Packing::new(&documents, 2, true).is_err());
        assert!(Packing::new(&documents, 1, true).is_err());
    }

    #[test]
    fn packing_is_first_fit_decreasing() {
        for (count, most, length) in [(1, 10, 16), (200, 16, 16), (1000, 90, 64), (333, 7, 64)] {
            let lengths = numbers(count, most);
            let documents = documents(&lengths);
            let packing = Packing::new(&documents, length, true).unwrap();
            // Each piece into the first row that has room, all rows tried in turn.
            let mut pieces: Vec<Piece> = Vec::new();
            for (document, &len) in lengths.iter().enumerate() {
                let starts = (0..len).step_by(length);
                let piece = |start| Piece { document, start, len: length.min(len - start) };
                pieces.extend(starts.map(piece).filter(|piece| piece.len > 1));
            }
            pieces.sort_by_key(|piece| (Reverse(piece.len), piece.document, piece.start));
            let mut rows: Vec<Vec<Piece>> = Vec::new();
            for piece in pieces {
                let used = |row: &[Piece]| row.iter().map(|piece| piece.len).sum::<usize>();
                match rows.iter_mut().find(|row| used(row) + piece.len <= length) {
                    Some(row) => row.push(piece),
                    None => rows.push(vec![piece]),
                }
            }
            let found: Vec<&[Piece]> = (0..packing.rows()).map(|row| packing.pieces(row)).collect();
            assert_eq!(found, rows);
            let padding = 1.0 - packing.tokens() as f64 / (rows.len() * length) as f64;
            assert!((packing.padding() - padding).abs() < 1e-12);
        }
    }

    #[test]
    fn every_token_lies_in_one_row() {
        let lengths = numbers(500, 70);
        let documents = documents(&lengths);
        for pack in [true, false] {
            let packing = Packing::new(&documents, 32, pack).unwrap();
            let rows = (0..packing.rows()).map(|row| packing.row(&documents, row));
            let mut ids: Vec<i32> = Vec::new();
            for row in rows {
                assert_eq!((row.ids.len(), row.labels.len(), row.first_key.len()), (32, 32, 32));
                for (place, label) in row.labels.iter().enumerate() {
                    if let Some(label) = label {
                        assert_eq!(*label, row.ids[place] + 1);
                        assert_eq!(row.first_key[place], row.first_key[place + 1]);
                    }
                }
                ids.extend(row.ids.iter().filter(|id| **id > 0));
            }
            ids.sort_unstable();
            ids.dedup();
            let alone = |len: &&usize| **len % 32 == 1;
            let all: usize = lengths.iter().sum();
            assert_eq!(ids.len(), all - lengths.iter().filter(alone).count());
            assert_eq!(ids.len(), packing.tokens());
        }
    }
}
