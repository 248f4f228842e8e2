//! Documents as examples: as they were read, and packed into rows of tokens.

use std::sync::{Arc, Mutex, PoisonError};

use super::trim::trim_to;
use super::{
    ChatTemplate, DocumentEncoder, DocumentTokens, Documents, LossOn, PackedRow, Packing,
    ShownPiece, Tokenizer, Trimmed,
};
use crate::DataError;

/// Documents, and what a causal language model learns of them. Clones share them.
#[derive(Clone, Debug)]
pub struct Corpus {
    documents: Documents,
    /// What of them is learnt.
    pub loss_on: LossOn,
    /// Whether several short ones share a row.
    pub pack: bool,
    /// What was packed last: for which tokenizer and length.
    packed: Arc<Mutex<Vec<Known>>>,
    /// Tokenizers that were trimmed.
    trimmed: Arc<Mutex<Vec<KnownTrimmed>>>,
}

/// A tokenizer that was trimmed, for that one's file and a least count.
#[derive(Debug)]
struct KnownTrimmed {
    tokenizer: u32,
    min_count: u32,
    trimmed: Trimmed,
}

/// Documents that were packed, for a tokenizer's file and a length.
#[derive(Debug)]
struct Known {
    tokenizer: u32,
    length: usize,
    rows: PackedDocuments,
}

/// The same documents, of which the same is learnt.
impl PartialEq for Corpus {
    fn eq(&self, other: &Self) -> bool {
        self.documents == other.documents
            && self.loss_on == other.loss_on
            && self.pack == other.pack
    }
}

impl Corpus {
    /// Documents of which this is learnt; with `pack`, short ones share rows.
    pub fn new(documents: Documents, loss_on: LossOn, pack: bool) -> Self {
        Self { documents, loss_on, pack, packed: Arc::default(), trimmed: Arc::default() }
    }

    /// The same of other documents.
    fn of(&self, documents: Documents) -> Self {
        Self::new(documents, self.loss_on, self.pack)
    }

    /// The documents.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// The first `count`, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        self.of(self.documents.clone().take(count))
    }

    /// The documents of these numbers, in their order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        Ok(self.of(self.documents.select(indices)?))
    }

    /// Rows of `length` tokens. What was packed for this tokenizer and length is remembered.
    ///
    /// # Errors
    /// As [`DocumentEncoder::encode`] and [`Packing::new`].
    pub fn packed(
        &self,
        tokenizer: &Tokenizer,
        length: usize,
    ) -> Result<PackedDocuments, DataError> {
        let mut known = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = tokenizer.digest();
        let same = |one: &&Known| one.tokenizer == digest && one.length == length;
        if let Some(known) = known.iter().find(same) {
            return Ok(known.rows.clone());
        }
        let tokens = self.encoder(tokenizer)?.encode(&self.documents)?;
        let packing = Packing::new(&tokens, length, self.pack)?;
        let rows = PackedDocuments::new(tokens, packing);
        known.push(Known { tokenizer: digest, length, rows: rows.clone() });
        Ok(rows)
    }

    /// The first `count` documents in parts that are learnt and parts that are not, as a report shows them.
    ///
    /// # Errors
    /// As [`DocumentEncoder::encode`].
    pub fn shown(
        &self,
        tokenizer: &Tokenizer,
        count: usize,
    ) -> Result<Vec<Vec<ShownPiece>>, DataError> {
        self.encoder(tokenizer)?.shown(&self.documents, count)
    }

    /// The tokenizer with the tokens alone that the documents use at least `min_count` times, and those that spell all else;
    /// see [`super::trim`]. What was trimmed is remembered.
    ///
    /// # Errors
    /// As [`DocumentEncoder::encode`] and [`super::trim`].
    pub fn trimmed(&self, tokenizer: &Tokenizer, min_count: u32) -> Result<Trimmed, DataError> {
        let mut known = self.trimmed.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = tokenizer.digest();
        let same = |one: &&KnownTrimmed| (one.tokenizer, one.min_count) == (digest, min_count);
        if let Some(known) = known.iter().find(same) {
            return Ok(known.trimmed.clone());
        }
        let tokens = self.encoder(tokenizer)?.encode(&self.documents)?;
        let trimmed = trim_to(tokenizer, tokens.ids(), min_count, None)?;
        known.push(KnownTrimmed { tokenizer: digest, min_count, trimmed: trimmed.clone() });
        Ok(trimmed)
    }

    fn encoder<'a>(&self, tokenizer: &'a Tokenizer) -> Result<DocumentEncoder<'a>, DataError> {
        DocumentEncoder::new(tokenizer, ChatTemplate::of(tokenizer)?, self.loss_on)
    }
}

impl PackedRow {
    /// Tokens that count.
    pub fn counted(&self) -> usize {
        self.labels.iter().flatten().count()
    }

    /// These texts one behind the other, of which each next token counts.
    pub fn of_texts(texts: &[&[i32]]) -> Self {
        Self::of_pieces(texts.iter().map(|text| (*text, 0)))
    }

    /// These texts one behind the other, of each of which the tokens from a place on count.
    pub fn of_pieces<'t>(texts: impl Iterator<Item = (&'t [i32], usize)>) -> Self {
        let mut row = Self::default();
        for (text, from) in texts {
            let first = row.ids.len();
            row.ids.extend_from_slice(text);
            row.positions.extend(0..text.len() as i32);
            row.first_key.extend(vec![first as i32; text.len()]);
            row.last_query.extend(vec![(first + text.len()) as i32 - 1; text.len()]);
            let next = (1..text.len()).map(|at| (at >= from).then(|| text[at])).chain([None]);
            row.labels.extend(next.take(text.len()));
        }
        row
    }
}

/// Rows of tokens, of one document or several. Clones share the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedDocuments {
    tokens: Arc<DocumentTokens>,
    packing: Arc<Packing>,
    /// Numbers of the packing's rows.
    rows: Arc<Vec<u32>>,
}

impl PackedDocuments {
    pub(super) fn new(tokens: DocumentTokens, packing: Packing) -> Self {
        let rows = (0..packing.rows() as u32).collect();
        Self { tokens: Arc::new(tokens), packing: Arc::new(packing), rows: Arc::new(rows) }
    }

    /// Texts in rows of `length` tokens, with `pack` short ones together; of each the tokens from a place on count, and stand
    /// for no bytes. Without, each has a row of its own unless none of its tokens counts.
    ///
    /// # Errors
    /// As [`Packing::new`].
    pub fn of_texts<'t>(
        texts: impl Iterator<Item = (&'t [i32], usize)>,
        length: usize,
        pack: bool,
    ) -> Result<Self, DataError> {
        let mut tokens = DocumentTokens::default();
        for (ids, from) in texts {
            let counts: Vec<bool> = (0..ids.len()).map(|at| at >= from).collect();
            tokens.push(ids, &counts, &vec![0; ids.len()]);
        }
        let packing = Packing::new(&tokens, length, pack)?;
        Ok(Self::new(tokens, packing))
    }

    /// Number of rows, at least one.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> PackedRow {
        self.packing.row(&self.tokens, self.rows[row] as usize)
    }

    /// Tokens of a row, padding left out.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn length(&self, row: usize) -> usize {
        self.packing.pieces(self.rows[row] as usize).iter().map(|piece| piece.len).sum()
    }

    /// The pieces of documents in a row, in their order: of each its tokens, and which of them are learnt.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn pieces(&self, row: usize) -> impl Iterator<Item = (&[i32], &[bool])> {
        self.packing.pieces(self.rows[row] as usize).iter().map(|piece| {
            let document = self.tokens.row(piece.document);
            let range = piece.start..piece.start + piece.len;
            (&document.ids[range.clone()], &document.counts[range])
        })
    }

    /// The share of places that hold no token, of all rows that were packed.
    pub fn padding(&self) -> f64 {
        self.packing.padding()
    }

    /// Tokens that count in the loss, and the bytes of text that these stand for.
    pub fn counted(&self) -> (usize, u64) {
        let of_row = |row: usize| {
            let row = self.row(row);
            (row.counted(), row.bytes)
        };
        (0..self.len()).map(of_row).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// About how many bytes they take in memory.
    pub fn bytes(&self) -> usize {
        9 * self.tokens.ids().len()
    }

    /// The first `count`, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        let count = count.clamp(1, self.len());
        Self { rows: Arc::new(self.rows[..count].to_vec()), ..self }
    }

    /// The rows of these numbers, in their order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        Ok(Self { rows: Arc::new(super::rows_of(&self.rows, indices)?), ..self.clone() })
    }

    /// A checksum (CRC-32) of each row's tokens and labels.
    pub(crate) fn row_digests(&self) -> Vec<u32> {
        let digest = |row: usize| {
            let PackedRow { ids, labels, first_key, .. } = self.row(row);
            let labels: Vec<i32> = labels.into_iter().map(|label| label.unwrap_or(-1)).collect();
            let mut digest = crc32fast::Hasher::new();
            for part in [&ids, &labels, &first_key] {
                digest.update(bytemuck::cast_slice(part));
            }
            digest.finalize()
        };
        (0..self.len()).map(digest).collect()
    }
}
